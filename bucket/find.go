package bucket

import (
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
)

const (
	// near is how many neighbours on each side of the first guess are compared: by
	// the spread of hashes the key is among them nine times of ten. Their loads do
	// not wait for each other, so that all cost little more than one.
	near = 7
	// guesses bounds how often a search goes on by the distribution of hashes
	// before it halves: enough for hashes that are spread, and a limit for a row
	// whose hashes are not.
	guesses = 3
	// scanned is how many neighbours are compared one by one at the end: it costs
	// about what hashing one of them does.
	scanned = 12
)

// Find returns the entry of a key in bucket id: of its tail, else of its row,
// else of its chain. hash is the hash of key and must lie under the bucket's
// prefix; if it does not, the directory is wrong, and that is a corrupt error.
// It takes no lock and, unless something is wrong, allocates nothing.
func (t *Table) Find(id uint32, hash uint64, key keys.E) (Entry, bool, error) {
	var s State
	page, err := t.head(id, &s)
	if err != nil {
		return Entry{}, false, err
	}
	if !s.Covers(hash) {
		return Entry{}, false, corrupt.Errorf(stateName(id), -1, "prefix %#x of %d bits does not cover hash %#x",
			s.Prefix, s.LocalDepth, hash)
	}
	if s.TailCount > 0 {
		e, found, err := t.findTail(id, &s, page, hash, key)
		if err != nil || found {
			return e, found && !e.deleted, err
		}
	}
	return t.findRows(id, &s, page, hash, key)
}

// findTail looks where the tags allow the key to be. A damaged entry there may
// be the key's: that is an error.
func (t *Table) findTail(id uint32, s *State, page *hdf5io.Page, hash uint64, key keys.E) (Entry, bool, error) {
	var x extent
	for i, tag := range s.TailTags[:s.TailCount] {
		if tag != byte(hash) {
			continue
		}
		if x.bytes == nil {
			if err := t.tailOf(&x, id, s, page, false); err != nil {
				return Entry{}, false, err
			}
		}
		if x.trust != isBad && x.key(i) != key {
			continue
		}
		e, err := t.entry(&x, i, t.seal.seed(id, x.commit))
		if err != nil {
			return Entry{}, false, err
		}
		if e.Key() == key {
			return e, true, nil
		}
	}
	return Entry{}, false, nil
}

// findRows looks in the row and then in the chain. A damaged row is an error
// only if no other one has the key.
func (t *Table) findRows(id uint32, s *State, page *hdf5io.Page, hash uint64, key keys.E) (Entry, bool, error) {
	var damage error
	at := *s
	for way := (chain{anchor: id}); ; {
		if at.SortedCount > 0 {
			var x extent
			if err := t.rowOf(&x, id, &at, page, false); err != nil {
				return Entry{}, false, err
			}
			if e, found, err := t.findIn(&x, &at, hash, key); err != nil && x.trust == isBad && damage == nil {
				damage = err
			} else if err != nil || found {
				return e, found, err
			}
		}
		if at.Next == 0 {
			return Entry{}, false, damage
		}
		var err error
		if page, err = t.follow(&way, &id, &at); err != nil {
			return Entry{}, false, err
		}
	}
}

// findIn returns a key's entry of a row. If the row is damaged and no good entry
// of it is the key's, that is an error: the key may have been there.
func (t *Table) findIn(x *extent, s *State, hash uint64, key keys.E) (Entry, bool, error) {
	if x.trust == isBad {
		seed := t.seal.seed(x.id, x.commit)
		for i := range x.count {
			if x.key(i) == key {
				if e, err := t.entry(x, i, seed); err == nil {
					return e, true, nil
				}
			}
		}
		return Entry{}, false, x.damage()
	}
	i, found := t.search(x, s, hash, key)
	if !found {
		return Entry{}, false, nil
	}
	e, err := t.entry(x, i, t.seal.seed(x.id, x.commit))
	return e, err == nil, err
}

// search returns the place of a key in a sorted row. Hashes under a prefix are
// spread evenly, so a hash tells where about its key lies. Only when it is not
// there are hashes computed: those of the ends of what was compared tell whether
// the key is absent, or on which side to go on.
func (t *Table) search(x *extent, s *State, hash uint64, key keys.E) (int, bool) {
	low, high := s.Prefix, s.Prefix|^prefixMask(s.LocalDepth)
	lo, hi := 0, x.count // it lies in [lo, hi)
	guess := between(lo, hi, low, high, hash)
	from, to := max(guess-near, 0), min(guess+near+1, x.count)
	if i, found := x.scan(from, to, key); found {
		return i, true
	}
	below := func(i int) (uint64, bool) { // entry i stands before key
		h := t.hasher.Hash(x.key(i))
		return h, h < hash || h == hash && x.key(i).Compare(key) < 0
	}
	if h, before := below(from); !before {
		hi, high = from, h
	} else if h, before := below(to - 1); before {
		lo, low = to, h
	} else {
		return 0, false
	}
	for probe := 0; hi-lo > scanned; probe++ {
		i := lo + (hi-lo)/2
		if probe < guesses && high > low {
			i = between(lo, hi, low, high, hash)
		}
		if h, before := below(i); before {
			lo, low = i+1, h
		} else {
			hi, high = i+1, h
		}
	}
	return x.scan(lo, hi, key)
}

// between is the place in [lo, hi) where a hash lies if those from low to high
// are spread evenly over it.
func between(lo, hi int, low, high, hash uint64) int {
	i := lo + int(float64(hash-low)/float64(high-low)*float64(hi-lo))
	return max(lo, min(i, hi-1))
}

// scan compares the keys of entries from to to-1.
func (x *extent) scan(from, to int, key keys.E) (int, bool) {
	for i := from; i < to; i++ {
		if x.key(i) == key {
			return i, true
		}
	}
	return 0, false
}
