package cidstore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/cidstore/cidstore"
)

// words makes a store for an example; remove deletes it.
func words() (s *cidstore.Store, remove func()) {
	dir, err := os.MkdirTemp("", "cidstore")
	if err != nil {
		log.Fatal(err)
	}
	s, err = cidstore.Open(filepath.Join(dir, "words.h5"), nil)
	if err != nil {
		log.Fatal(err)
	}
	return s, func() {
		if err := s.Close(); err != nil {
			log.Fatal(err)
		}
		os.RemoveAll(dir)
	}
}

// A store is a file; its name may end in .h5, for h5py opens it too.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "cidstore")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "words.h5")

	s, err := cidstore.Open(path, nil) // made if it is not there
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Insert(cidstore.FromString("dog"), cidstore.FromString("animal")); err != nil {
		log.Fatal(err)
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}

	s, err = cidstore.Open(path, &cidstore.Options{ReadOnly: true})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	fmt.Println(s.Has(cidstore.FromString("dog"), cidstore.FromString("animal")))
	// Output: true <nil>
}

// A key has a set of values: inserting twice is inserting once.
func ExampleStore_Insert() {
	s, remove := words()
	defer remove()
	dog := cidstore.FromString("dog")
	for _, value := range []uint64{7, 3, 7} {
		if err := s.Insert(dog, cidstore.FromUint64(value)); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(s.Count(dog))
	// Output: 2 <nil>
}

// Values come in ascending order; an absent key has none, and that is no error.
func ExampleStore_Lookup() {
	s, remove := words()
	defer remove()
	dog := cidstore.FromString("dog")
	for _, value := range []uint64{7, 3} {
		if err := s.Insert(dog, cidstore.FromUint64(value)); err != nil {
			log.Fatal(err)
		}
	}
	values, err := s.Lookup(dog)
	fmt.Println(values, err)
	values, err = s.Lookup(cidstore.FromString("cat"))
	fmt.Println(values == nil, err)
	// Output:
	// [00000000000000000000000000000003 00000000000000000000000000000007] <nil>
	// true <nil>
}

// The operations of a batch are seen, and survive, together and in order.
func ExampleStore_Apply() {
	s, remove := words()
	defer remove()
	dog, cat := cidstore.FromString("dog"), cidstore.FromString("cat")
	var b cidstore.Batch
	b.Insert(dog, cidstore.FromUint64(1))
	b.Insert(cat, cidstore.FromUint64(2))
	b.Delete(dog)
	b.Insert(dog, cidstore.FromUint64(3))
	if err := s.Apply(&b); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Lookup(dog))
	fmt.Println(s.Lookup(cat))
	// Output:
	// [00000000000000000000000000000003] <nil>
	// [00000000000000000000000000000002] <nil>
}

// A snapshot does not see what is written after it.
func ExampleStore_Snapshot() {
	s, remove := words()
	defer remove()
	dog := cidstore.FromString("dog")
	if err := s.Insert(dog, cidstore.FromUint64(1)); err != nil {
		log.Fatal(err)
	}
	v, err := s.Snapshot()
	if err != nil {
		log.Fatal(err)
	}
	defer v.Close()
	if err := s.Insert(dog, cidstore.FromUint64(2)); err != nil {
		log.Fatal(err)
	}
	for key, value := range v.All() {
		fmt.Println(key == dog, value.Low)
	}
	fmt.Println(v.Err())
	fmt.Println(s.Count(dog))
	// Output:
	// true 1
	// <nil>
	// 2 <nil>
}

// Large sets stream.
func ExampleStore_Values() {
	s, remove := words()
	defer remove()
	dog := cidstore.FromString("dog")
	var b cidstore.Batch
	for i := range uint64(5000) {
		b.Insert(dog, cidstore.FromUint64(i))
	}
	if err := s.Apply(&b); err != nil {
		log.Fatal(err)
	}
	sum := uint64(0)
	for value, err := range s.Values(dog) {
		if err != nil {
			log.Fatal(err)
		}
		sum += value.Low
	}
	fmt.Println(sum)
	// Output: 12497500
}

// A set of more than four values is kept outside of the entry of its key, and stays there
// when values are deleted, which leave tombstones.
func ExampleStore_DemoteIfPossible() {
	s, remove := words()
	defer remove()
	dog := cidstore.FromString("dog")
	for v := range uint64(6) {
		if err := s.Insert(dog, cidstore.FromUint64(v)); err != nil {
			log.Fatal(err)
		}
	}
	for v := range uint64(4) {
		if err := s.DeleteValue(dog, cidstore.FromUint64(v)); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(s.TombstoneCount(dog))
	if err := s.Compact(dog); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.TombstoneCount(dog))
	fmt.Println(s.ValueSetExists(dog))
	fmt.Println(s.DemoteIfPossible(dog))
	fmt.Println(s.ValueSetExists(dog))
	// Output:
	// 4 <nil>
	// 0 <nil>
	// true <nil>
	// true <nil>
	// false <nil>
}

// Garbage is collected in the background, and at once by a call.
func ExampleStore_RunGCOnce() {
	s, remove := words()
	defer remove()
	dog := cidstore.FromString("dog")
	for v := range uint64(100) {
		if err := s.Insert(dog, cidstore.FromUint64(v)); err != nil {
			log.Fatal(err)
		}
	}
	if err := s.Checkpoint(context.Background()); err != nil {
		log.Fatal(err)
	}
	for v := range uint64(90) {
		if err := s.DeleteValue(dog, cidstore.FromUint64(v)); err != nil {
			log.Fatal(err)
		}
	}
	stats, err := s.RunGCOnce(context.Background())
	fmt.Printf("%+v %v\n", stats, err)
	// Output: {Deletions:90 Compacted:1 Tombstones:90 Orphans:0} <nil>
}

// After many deletes, Maintain merges what they have left nearly empty, and Shrink gives
// the space back.
func ExampleStore_Maintain() {
	s, remove := words()
	defer remove()
	var b cidstore.Batch
	for k := range uint64(50_000) {
		b.Insert(cidstore.FromUint64(k), cidstore.FromUint64(1))
	}
	if err := s.Apply(&b); err != nil {
		log.Fatal(err)
	}
	b.Reset()
	for k := range uint64(49_900) {
		b.Delete(cidstore.FromUint64(k))
	}
	if err := s.Apply(&b); err != nil {
		log.Fatal(err)
	}
	if err := s.Maintain(context.Background()); err != nil {
		log.Fatal(err)
	}
	if err := s.Shrink(context.Background()); err != nil {
		log.Fatal(err)
	}
	few, err := s.Figures(context.Background())
	fmt.Println(few.Keys, few.Groups, few.Runs, err)
	// Output: 100 1 0 <nil>
}

// Space shows why a file is larger than its data: here a snapshot holds what commits
// have freed since.
func ExampleStore_Space() {
	s, remove := words()
	defer remove()
	v, err := s.Snapshot()
	if err != nil {
		log.Fatal(err)
	}
	defer v.Close()
	for i := range uint64(3) {
		if err := s.Insert(cidstore.FromString("dog"), cidstore.FromUint64(i)); err != nil {
			log.Fatal(err)
		}
		if err := s.Checkpoint(context.Background()); err != nil {
			log.Fatal(err)
		}
	}
	p, err := s.Space()
	fmt.Println(p.Pinned > 0, p.OldestPin < p.Commit, err)
	// Output: true true <nil>
}

// Commits bring the directory into the form that its size asks for.
func ExampleStore_MigrateDirectory() {
	s, remove := words()
	defer remove()
	if err := s.MigrateDirectory(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.DirectoryMode())
	// Output: attribute
}

// Delete takes a key with all its values. The event goes to Options.Logger too.
func ExampleStore_Delete() {
	s, remove := words()
	defer remove()
	dog := cidstore.FromString("dog")
	for v := range uint64(3) {
		if err := s.Insert(dog, cidstore.FromUint64(v)); err != nil {
			log.Fatal(err)
		}
	}
	if err := s.DeleteValue(dog, cidstore.FromUint64(1)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Count(dog))
	if err := s.Delete(dog); err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.HasKey(dog))
	s.LogEvent("error", "cause", "no more dogs")
	m := s.Metrics()
	fmt.Println(m.ErrorEvents, m.LastError)
	// Output:
	// 2 <nil>
	// false <nil>
	// 1 cause=no more dogs
}
