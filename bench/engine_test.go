package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
)

// store is an open engine that a test uses and reopens.
type store struct {
	*testing.T
	peer    peer
	dir     string
	relaxed bool
	engine
	reader reader // opened with the engine
}

func newStore(t *testing.T, p peer) *store {
	s := &store{T: t, peer: p, dir: t.TempDir()}
	s.reopen()
	t.Cleanup(func() { s.must(s.reader.close(), s.close()) })
	return s
}

func (s *store) reopen() {
	s.Helper()
	if s.engine != nil {
		s.must(s.reader.close(), s.close())
	}
	var err error
	s.engine, err = s.peer.open(s.dir, s.relaxed)
	s.must(err)
	s.reader, err = s.newReader()
	s.must(err)
}

func (s *store) must(errs ...error) {
	s.Helper()
	if err := errors.Join(errs...); err != nil {
		s.Fatal(err)
	}
}

// want compares the values of a key.
func (s *store) want(key [16]byte, values ...[16]byte) {
	s.Helper()
	got, err := s.reader.lookup(key, [][16]byte{{42}})
	s.must(err)
	if got[0] != [16]byte{42} {
		s.Fatalf("lookup changed what was in dst")
	}
	got = got[1:]
	if len(got) != len(values) || fingerprint(got) != fingerprint(values) {
		s.Fatalf("key %x has %d values, want %d, or it has others", key[:4], len(got), len(values))
	}
}

// eachPeer runs a test on every engine.
func eachPeer(t *testing.T, test func(s *store)) {
	for _, p := range realPeers {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			test(newStore(t, p))
		})
	}
}

func k(i uint64) [16]byte { return keyAt(1, i) }
func v(i uint64) [16]byte { return valueAt(1, i) }

// Before speeds can be compared, every engine must do the same.
func TestEngineSets(t *testing.T) {
	eachPeer(t, func(s *store) {
		s.want(k(1))
		batch := []pair{{k(2), v(2)}, {k(1), v(1)}, {k(1), v(2)}, {k(1), v(1)}, {k(3), v(9)}}
		before := slices.Clone(batch)
		s.must(s.insert(batch))
		if !slices.Equal(batch, before) {
			t.Fatal("insert changed its argument")
		}
		s.want(k(1), v(1), v(2))
		s.want(k(2), v(2))
		s.must(s.insert([]pair{{k(1), v(2)}})) // it is there already
		s.must(s.insert([]pair{{k(1), v(3)}}))
		s.want(k(1), v(1), v(2), v(3))

		s.must(s.remove([]pair{{k(1), v(2)}, {k(1), v(77)}, {k(3), v(9)}, {k(50), v(1)}}))
		s.want(k(1), v(1), v(3))
		s.want(k(3))
		s.must(s.removeKey(k(1)), s.removeKey(k(1)))
		s.want(k(1))
		s.want(k(2), v(2))
		s.must(s.insert([]pair{{k(1), v(5)}}))
		s.want(k(1), v(5))
		s.reopen()
		s.want(k(1), v(5))
		s.want(k(2), v(2))
		s.want(k(3))
	})
}

// What a relaxed engine was given is there once it is closed.
func TestEngineRelaxed(t *testing.T) {
	eachPeer(t, func(s *store) {
		s.relaxed = true
		s.reopen()
		s.must(s.insert([]pair{{k(1), v(1)}, {k(1), v(2)}, {k(2), v(2)}}), s.remove([]pair{{k(1), v(1)}}))
		s.relaxed = false
		s.reopen()
		s.want(k(1), v(2))
		s.want(k(2), v(2))
	})
}

// A set of more values than a page holds, inserted batch by batch, shrunk to one.
func TestEngineLargeSet(t *testing.T) {
	eachPeer(t, func(s *store) {
		var all [][16]byte
		var pairs []pair
		for i := range uint64(3000) {
			all = append(all, v(i))
			pairs = append(pairs, pair{k(7), v(i)})
		}
		for batch := range slices.Chunk(pairs, 500) {
			s.must(s.insert(batch))
		}
		s.want(k(7), all...)
		s.must(s.remove(pairs[1:]))
		s.want(k(7), v(0))
		s.must(s.insert(pairs[:10]))
		s.reopen()
		s.want(k(7), all[:10]...)
		s.must(s.removeKey(k(7)))
		s.want(k(7))
	})
}

// Identifiers at both ends of the order, and keys that share all bytes but the last.
func TestEngineEdges(t *testing.T) {
	eachPeer(t, func(s *store) {
		zero, ones := [16]byte{}, [16]byte(bytes.Repeat([]byte{0xff}, 16))
		near := ones
		near[15] = 0xfe
		for _, key := range [][16]byte{zero, near, ones} {
			s.must(s.insert([]pair{{key, zero}, {key, ones}}))
		}
		for _, key := range [][16]byte{zero, near, ones} {
			s.want(key, zero, ones)
			s.must(s.removeKey(key))
			s.want(key)
		}
	})
}

// All that sixteen goroutines insert singly is there, also after reopening.
func TestEngineConcurrentSingles(t *testing.T) {
	eachPeer(t, func(s *store) {
		const writers, each = 16, 5
		s.must(together(writers, func(w int) error {
			r, err := s.newReader()
			for i := range uint64(each) {
				p := pairAt(1, uint64(w)*each+i)
				err = errors.Join(err, s.insert([]pair{p}))
				got, lookup := r.lookup(p.key, nil)
				if err = errors.Join(err, lookup); len(got) != 1 || got[0] != p.value {
					return fmt.Errorf("an acknowledged pair is not seen: %d values (%v)", len(got), err)
				}
			}
			return errors.Join(err, r.close())
		}))
		s.reopen()
		for i := range uint64(writers * each) {
			s.want(k(i), v(i))
		}
	})
}

// An error of the batch reaches everyone whose pair was in it, and the next batch
// is a new one.
func TestGroupErrors(t *testing.T) {
	broken := errors.New("broken")
	failing, written := true, 0
	g := &group{}
	g.write = func(pairs []pair) error {
		if failing {
			return broken
		}
		written += len(pairs)
		return nil
	}
	insert := func(int) error {
		if err := g.insert([]pair{{}}); !errors.Is(err, broken) {
			return fmt.Errorf("insert gives %v, want %v", err, broken)
		}
		return nil
	}
	if err := together(50, insert); err != nil {
		t.Fatal(err)
	}
	failing = false
	if err := together(50, func(int) error { return g.insert([]pair{{}}) }); err != nil || written != 50 {
		t.Fatalf("%d pairs were written, want 50 (%v)", written, err)
	}
}

// pogreb's packed sets are compared with a map.
func TestPackedSets(t *testing.T) {
	rnd := random(3)
	model := map[[16]byte]bool{}
	var set []byte
	for range 500 {
		var pairs []pair
		for range 1 + rnd.next()%6 {
			pairs = append(pairs, pair{value: v(rnd.next() % 60)})
		}
		if pairs = sorted(pairs); rnd.next()%2 == 0 {
			set = union(set, pairs)
			for _, p := range pairs {
				model[p.value] = true
			}
		} else {
			set = difference(set, pairs)
			for _, p := range pairs {
				delete(model, p.value)
			}
		}
		order := func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) }
		want := []byte{}
		for _, value := range slices.SortedFunc(maps.Keys(model), order) {
			want = append(want, value[:]...)
		}
		if !bytes.Equal(set, want) {
			t.Fatalf("the packed set has %d bytes, want %d, or others", len(set), len(want))
		}
	}
}
