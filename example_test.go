package cidstore_test

import (
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
