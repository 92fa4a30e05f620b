package cidstore

import (
	"context"
	"errors"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/sample"
	"github.com/cidstore/cidstore/wal"
)

// someSlices is a context that ends after so many slices of a checkpoint.
type someSlices struct {
	context.Context
	left int
}

func (c *someSlices) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestMemoLaw: keys with more pending operations than a read walks answer as the
// walk and as the model do, now and in snapshots of older moments, whatever
// checkpoints, whole or in parts, have put into the tree between.
func TestMemoLaw(t *testing.T) {
	memos := 0
	sample.Check(t, func(t *rapid.T) {
		o := smallOptions(crashfs.New(crashfs.Options{FileLimit: 16 << 20}))
		o.WALBytes = 256 << 10
		s := mustGet(Open(crashPath, o))(t)
		defer s.Close()
		l := &memoLaw{store: s, model: contents{}}
		for key := range uint64(200) { // so that a checkpoint has slices
			l.insert(t, E{High: 1, Low: key}, 1)
		}
		t.Repeat(l.actions())
		memos += l.memos
		mustDo(t, errOf(s.Check(context.Background())))
		for _, m := range l.moments {
			mustDo(t, m.snapshot.Close())
		}
	})
	if memos == 0 {
		t.Error("no read made a memo")
	}
}

type memoLaw struct {
	store   *Store
	model   contents
	moments []moment
	memos   int // that reads have made
}

// actions are what a run does, in any order.
func (l *memoLaw) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"insert": func(t *rapid.T) { l.insert(t, l.key(t), rapid.IntRange(1, 300).Draw(t, "values")) },
		"toggle": func(t *rapid.T) {
			key, value := l.key(t), l.value(t)
			var b Batch
			for range rapid.IntRange(1, 100).Draw(t, "times") {
				b.DeleteValue(key, value)
				b.Insert(key, value)
			}
			l.apply(t, &b)
		},
		"delete values": func(t *rapid.T) {
			var b Batch
			key := l.key(t)
			for range rapid.IntRange(1, 100).Draw(t, "values") {
				b.DeleteValue(key, l.value(t))
			}
			l.apply(t, &b)
		},
		"delete": func(t *rapid.T) {
			var b Batch
			b.Delete(l.key(t))
			l.apply(t, &b)
		},
		"snapshot": func(t *rapid.T) {
			l.moments = append(l.moments, moment{mustGet(l.store.Snapshot())(t), l.model.clone()})
			if len(l.moments) > 3 {
				_ = l.moments[0].snapshot.Close()
				l.moments = l.moments[1:]
			}
		},
		"checkpoint": func(t *rapid.T) {
			slices := rapid.IntRange(0, 20).Draw(t, "slices")
			if err := l.store.Checkpoint(&someSlices{context.Background(), slices}); err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		},
		"read": func(t *rapid.T) {
			key := l.key(t)
			r, pin, err := l.store.acquire()
			mustDo(t, err)
			defer r.view.Unpin(pin)
			l.compare(t, r, l.model, key)
			for _, m := range l.moments {
				l.compare(t, m.snapshot.reader, m.model, key)
			}
			l.memos += len(r.memos.keys)
		},
	}
}

// moment is a snapshot and what it must show.
type moment struct {
	snapshot *Snapshot
	model    contents
}

func (c contents) clone() contents {
	d := contents{}
	for key, values := range c {
		d[key] = maps.Clone(values)
	}
	return d
}

func (l *memoLaw) key(t *rapid.T) E {
	return E{High: 2, Low: rapid.Uint64Range(0, 2).Draw(t, "key")}
}

func (l *memoLaw) value(t *rapid.T) E { return E{Low: rapid.Uint64Range(0, 400).Draw(t, "value")} }

func (l *memoLaw) insert(t *rapid.T, key E, values int) {
	var b Batch
	first := l.value(t).Low
	for i := range uint64(values) {
		b.Insert(key, E{Low: (first + i) % 400})
	}
	l.apply(t, &b)
}

func (l *memoLaw) apply(t *rapid.T, b *Batch) {
	l.model.apply(b.ops)
	mustDo(t, l.store.Apply(b))
}

// compare asks r everything about key, by the memo if it has one; then it walks.
func (l *memoLaw) compare(t *rapid.T, r reader, model contents, key E) {
	want := slices.SortedFunc(maps.Keys(model[key]), E.Compare)
	has, err := r.hasKey(key)
	if err != nil || has != (len(want) > 0) {
		t.Fatalf("hasKey = %t, %v; want %d values", has, err, len(want))
	}
	wantIs(t, uint64(len(want)), "count")(r.count(key))
	if got, err := r.appendLookup(nil, key); err != nil || !slices.Equal(got, want) {
		t.Fatalf("lookup: %d values, %v; want %d", len(got), err, len(want))
	}
	fresh, frozen := r.pending(r.view.hasher.Hash(key), key)
	for low := range uint64(410) {
		v := E{Low: low}
		wantIs(t, model[key][v], "has", low)(r.has(key, v))
	}
	m := r.memo(key, fresh, frozen)
	if m == nil {
		return
	}
	defer m.mu.Unlock()
	ops := r.since(nil, 0, fresh, frozen)
	cleared, walked := ops[len(ops)-1].code == wal.Delete, settled(nil, ops)
	for _, f := range walked {
		if lives, known := m.values[f.Value]; !known || lives != (f.Mark == live) {
			t.Fatalf("value %v: %t, %t by the memo, mark %d by the walk", f.Value, lives, known, f.Mark)
		}
	}
	if m.cleared != cleared || len(m.values) != len(walked) {
		t.Fatalf("memo: cleared %t, %d values; walk: %t, %d", m.cleared, len(m.values), cleared, len(walked))
	}
}

// TestMemoOfANewerMoment: a reader that began before the memo's last operation
// does not see it.
func TestMemoOfANewerMoment(t *testing.T) {
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{GCInterval: -1})
	key := E{Low: 1}
	insert := func(first, n uint64) {
		var b Batch
		for i := range n {
			b.Insert(key, E{Low: first + i})
		}
		mustDo(t, s.Apply(&b))
	}
	insert(0, 2*longChain)
	old, pin, err := s.acquire()
	mustDo(t, err)
	defer old.view.Unpin(pin)
	insert(2*longChain, 1)
	for range 2 {
		wantIs(t, 2*longChain+1, "count")(s.Count(key))
		wantIs(t, uint64(2*longChain), "count of before")(old.count(key))
		wantIs(t, false, "has of before")(old.has(key, E{Low: 2 * longChain}))
	}
}

// TestReadersShareAMemo: while one goroutine writes, others read one key by its
// memo; each sees a number of values that there was.
func TestReadersShareAMemo(t *testing.T) {
	s := OpenStore(t, filepath.Join(t.TempDir(), "s.h5"), &Options{Durability: Async})
	key, n := E{Low: 1}, uint64(3000)
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for last := 0; last < int(n); {
				count, err := s.Count(key)
				if err != nil || count < last {
					t.Errorf("%d values after %d, %v", count, last, err)
					return
				}
				last = count
				if has, err := s.Has(key, E{Low: uint64(max(last, 1) - 1)}); err != nil || last > 0 && !has {
					t.Errorf("value %d: %t, %v", last-1, has, err)
					return
				}
			}
		})
	}
	for i := range n {
		if err := s.Insert(key, E{Low: i}); err != nil {
			t.Error(err)
			break
		}
		if i%1000 == 500 {
			wantErr(t, s.Checkpoint(context.Background()), nil)
		}
	}
	readers.Wait()
}

// TestLoopsKeepTheMemo: Values and LookupBatch of a Store leave what they sorted to the
// next reader; a Snapshot, which may be of an older moment, keeps its own.
func TestLoopsKeepTheMemo(t *testing.T) {
	s := mustGet(Open(filepath.Join(t.TempDir(), "s.h5"), &Options{GCInterval: -1}))(t)
	defer s.Close()
	var b Batch
	for i := range uint64(4 * longChain) {
		b.Insert(E{Low: i % 2}, E{Low: i})
	}
	mustDo(t, s.Apply(&b))
	values := func(list iter.Seq2[E, error]) (n int) {
		for _, err := range list {
			mustDo(t, err)
			n++
		}
		return n
	}
	v := mustGet(s.Snapshot())(t)
	defer v.Close()
	if n := values(v.Values(E{})); n != 2*longChain || s.Metrics().CachedKeys != 0 {
		t.Errorf("%d values of a snapshot, %d keys kept by the store, want none", n, s.Metrics().CachedKeys)
	}
	if n := values(s.Values(E{})); n != 2*longChain || s.Metrics().CachedKeys != 1 {
		t.Errorf("%d values, %d keys kept, want 1", n, s.Metrics().CachedKeys)
	}
	err := s.LookupBatch([]E{{Low: 1}}, func(_ int, list []E) bool { return len(list) == 2*longChain })
	if err != nil || s.Metrics().CachedKeys != 2 {
		t.Errorf("%v, %d keys kept, want 2", err, s.Metrics().CachedKeys)
	}
}
