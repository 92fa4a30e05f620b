package cidstore

import (
	"errors"
	"fmt"
	"iter"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/internal/order"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// reader reads one state up to one sequence, and so one consistent moment. Its user has
// pinned the View, and reads the file under a guard.
type reader struct {
	*state
	visible wal.Seq // of the fresh table
	memos   *memos  // of the state, or of a Snapshot
}

// guard runs a read of the mapping. It turns a fault there, which a file that was cut
// short gives, into ErrIO.
func guard(read func() error) error {
	err := vfs.Guard(read)
	if err != nil && errors.As(err, new(*vfs.FaultError)) {
		return fmt.Errorf("%w: %w", ErrIO, err)
	}
	return err
}

// stored is what the tree holds of one key.
type stored struct {
	entry   bucket.Entry
	set     valueset.Stored
	found   bool
	spilled bool
}

func (r reader) stored(hash uint64, key E) (stored, error) {
	e, found, err := r.view.buckets.Find(r.view.directory.Bucket(hash), hash, key)
	if err != nil || !found {
		return stored{}, err
	}
	return r.storedIn(e, key)
}

// storedIn returns what the tree holds of a key whose entry is e.
func (r reader) storedIn(e bucket.Entry, key E) (stored, error) {
	id, spilled := e.Spilled()
	if !spilled {
		return stored{entry: e, found: true}, nil
	}
	set, err := r.view.sets.Open(id, key)
	return stored{set: set, found: true, spilled: true}, err
}

func (d *stored) count() uint64 {
	switch {
	case !d.found:
		return 0
	case d.spilled:
		return d.set.Count()
	}
	return uint64(d.entry.Count())
}

func (d *stored) has(v E) (bool, error) {
	switch {
	case !d.found:
		return false, nil
	case d.spilled:
		return d.set.Has(v)
	}
	return d.entry.Has(v), nil
}

// append appends all values, or none and an error.
func (d *stored) append(dst []E) ([]E, error) {
	switch {
	case !d.found:
		return dst, nil
	case d.spilled:
		all, err := d.set.Append(dst)
		if err != nil {
			return dst, err
		}
		return all, nil
	}
	return d.entry.AppendValues(dst), nil
}

// each yields the values from `from` on, ascending. It goes on past damaged nodes of a
// tree, and calls bad with what is wrong there.
func (d *stored) each(from E, bad func(error), yield func(E) (bool, error)) error {
	if d.spilled {
		return d.set.Each(from, bad, yield)
	}
	var few [promotionThreshold]E
	values, err := d.append(few[:0])
	if err != nil {
		return err
	}
	for _, v := range values {
		if v.Compare(from) < 0 {
			continue
		}
		if more, err := yield(v); err != nil || !more {
			return err
		}
	}
	return nil
}

// pending returns, of each table, the newest operation on key that the tree lacks.
func (r reader) pending(hash uint64, key E) (fresh, frozen *op) {
	fresh = r.fresh.newest(hash, key, r.visible)
	if r.frozen != nil && !r.inTree(hash) {
		frozen = r.frozen.newest(hash, key, everything)
	}
	return fresh, frozen
}

// inTree reports whether the frozen table's operations on keys of this hash are in
// the View already: a slice of the checkpoint has passed them.
func (r reader) inTree(hash uint64) bool { return hash < r.view.record.sliceHash }

func (r reader) appendLookup(dst []E, key E) ([]E, error) {
	hash := r.view.hasher.Hash(key)
	fresh, frozen := r.pending(hash, key)
	if fresh == nil && frozen == nil {
		e, found, err := r.view.buckets.Find(r.view.directory.Bucket(hash), hash, key)
		if err != nil || !found {
			return dst, err
		}
		return r.appendEntry(dst, e, key)
	}
	return r.appendMerged(dst, hash, key, fresh, frozen)
}

// appendEntry appends the values of a key whose entry is e.
func (r reader) appendEntry(dst []E, e bucket.Entry, key E) ([]E, error) {
	if e.Count() > 0 {
		return e.AppendValues(dst), nil // most are such, and what stored returns is large
	}
	d, err := r.storedIn(e, key)
	if err != nil {
		return dst, err
	}
	return d.append(dst)
}

func (r reader) appendMerged(dst []E, hash uint64, key E, fresh, frozen *op) ([]E, error) {
	var few [8]outcome
	list, cleared := r.outcomes(few[:0], key, fresh, frozen)
	start := len(dst)
	if !cleared {
		d, err := r.stored(hash, key)
		if err != nil {
			return dst, err
		}
		if dst, err = d.append(dst); err != nil {
			return dst, err
		}
	}
	return overlaid(dst, start, list), nil
}

func (r reader) has(key, value E) (bool, error) {
	hash := r.view.hasher.Hash(key)
	fresh, frozen := r.pending(hash, key)
	live, known := false, false
	if m := r.memo(key, fresh, frozen); m != nil {
		live, known = m.values[value]
		known = known || m.cleared
		m.mu.Unlock()
	} else {
		live, known = r.outcome(value, fresh, frozen)
	}
	if known {
		return live, nil
	}
	d, err := r.stored(hash, key)
	if err != nil {
		return false, err
	}
	return d.has(value)
}

// hasKey reports whether key has any value. If the newest operation on it is an insert or
// a delete of the key, that one decides.
func (r reader) hasKey(key E) (bool, error) {
	newest, frozen := r.pending(r.view.hasher.Hash(key), key)
	if newest == nil {
		newest = frozen
	}
	if newest != nil && (newest.code == wal.Insert || newest.code == wal.Delete) {
		return newest.code == wal.Insert, nil
	}
	n, err := r.count(key)
	return n > 0, err
}

func (r reader) count(key E) (uint64, error) {
	hash := r.view.hasher.Hash(key)
	fresh, frozen := r.pending(hash, key)
	if m := r.memo(key, fresh, frozen); m != nil {
		defer m.mu.Unlock()
		d, err := r.stored(hash, key)
		if err != nil {
			return 0, err
		}
		return m.size(&d)
	}
	var few [8]outcome
	list, cleared := r.outcomes(few[:0], key, fresh, frozen)
	var d stored
	if !cleared {
		var err error
		if d, err = r.stored(hash, key); err != nil {
			return 0, err
		}
	}
	n := d.count()
	for i := range list {
		was, err := d.has(list[i].Value)
		switch {
		case err != nil:
			return 0, err
		case was && list[i].Mark == gone:
			n--
		case !was && list[i].Mark == live:
			n++
		}
	}
	return n, nil
}

// valuesPerStep is how many values are gathered under one guard, so that a caller's code
// never runs inside it.
const valuesPerStep = 1024

// values streams the set of key, ascending. It goes on past what cannot be read, and
// calls bad with what is wrong there. It returns only an error that ends the loop.
func (v *Snapshot) values(key E, bad func(error), yield func(E) bool) error {
	hash := v.view.hasher.Hash(key)
	var few [8]outcome
	var list []outcome
	var cleared bool
	err := v.guard(func() error {
		fresh, frozen := v.pending(hash, key)
		list, cleared = v.outcomes(few[:0], key, fresh, frozen)
		return nil
	})
	if err != nil {
		return err
	}
	var d stored
	if !cleared {
		err := v.guard(func() (err error) { d, err = v.stored(hash, key); return err })
		if err != nil && ends(err) {
			return err
		}
		if err != nil {
			bad(err)
			d = stored{} // what is pending can be read
		}
	}
	from, step := E{}, make([]E, 0, min(valuesPerStep, d.count()+1))
	for more := d.found; more; {
		var err error
		if step, more, err = v.step(&d, step[:0], from, bad); err != nil {
			return err
		}
		for _, value := range step {
			for ; len(list) > 0 && order.Less(list[0].Value, value); list = list[1:] {
				if more, err := v.yields(list[0], yield); !more {
					return err
				}
			}
			if len(list) > 0 && list[0].Value == value {
				continue // its outcome decides
			}
			if more, err := v.goesOn(yield(value)); !more {
				return err
			}
		}
		if more {
			var last bool
			if from, last = successor(step[len(step)-1]); last {
				break
			}
		}
	}
	for _, f := range list {
		if more, err := v.yields(f, yield); !more {
			return err
		}
	}
	return nil
}

// yields yields the value of an outcome, if it is in the set.
func (v *Snapshot) yields(f outcome, yield func(E) bool) (more bool, err error) {
	if f.Mark != live {
		return true, nil
	}
	return v.goesOn(yield(f.Value))
}

// step reads values into step until it is full. more is false if there are no others.
func (v *Snapshot) step(d *stored, step []E, from E, bad func(error)) (_ []E, more bool, _ error) {
	err := v.guard(func() error {
		return d.each(from, bad, func(value E) (bool, error) {
			step = append(step, value)
			return len(step) < cap(step), nil
		})
	})
	if err != nil && !ends(err) {
		bad(err)
		return step, false, nil
	}
	return step, len(step) == cap(step), err
}

// stream is values for a loop over one key. It calls bad with the damage, and yields that
// as an error after the last value that can be read.
func (v *Snapshot) stream(key E, bad func(error), yield func(E, error) bool) {
	var damage damages
	stopped := false
	err := v.values(key, damage.add, func(value E) bool { stopped = !yield(value, nil); return !stopped })
	if err != nil {
		damage.add(err)
	}
	if err = damage.err(); err != nil {
		bad(err)
		if !stopped {
			yield(E{}, err)
		}
	}
}

// successor returns the next larger identifier; last reports that there is none.
func successor(v E) (next E, last bool) {
	next = E{High: v.High, Low: v.Low + 1}
	if next.Low == 0 {
		next.High++
		last = next.High == 0
	}
	return next, last
}

// Lookup returns all values of key, ascending, without duplicates. It returns nil, nil
// when there are none.
func (s *Store) Lookup(key E) ([]E, error) { return nilIfEmpty(s.AppendLookup(nil, key)) }

// nilIfEmpty returns nil for a slice whose values pending operations took away.
func nilIfEmpty(values []E, err error) ([]E, error) {
	if len(values) == 0 {
		return nil, err
	}
	return values, err
}

// AppendLookup appends all values of key to dst, ascending. With an error it returns dst
// as it was. It does not allocate when dst has room and the key has no more than eight
// pending values.
func (s *Store) AppendLookup(dst []E, key E) (out []E, err error) {
	r, pin, err := s.acquire()
	if err != nil {
		return dst, err
	}
	defer r.view.Unpin(pin)
	if sampled(key) {
		began := s.opts.Clock()
		defer func() { s.metrics.lookupTimes.observe(s.opts.Clock().Sub(began)) }()
	}
	out = dst
	err = guard(func() (err error) { out, err = r.appendLookup(dst, key); return err })
	return out, err
}

// sampled reports whether the lookups of a key are timed: those of one key in 1,024 are.
func sampled(key E) bool { return (key.High^key.Low)*0x9e3779b97f4a7c15>>54 == 0 }

// Values streams the values of key, ascending, from one consistent moment. If some cannot
// be read, it goes on with the others, and yields the error with a zero value at the end.
func (s *Store) Values(key E) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		v, err := s.Snapshot()
		if err != nil {
			yield(E{}, err)
			return
		}
		defer v.Close()
		v.memos = &v.state.memos // this is the newest moment, as for the other methods of Store
		v.stream(key, v.fail, func(value E, err error) bool { return yield(value, ofStore(err)) })
	}
}

// ofStore returns ErrClosed for the error of a method of Store whose own snapshot Close
// has ended, and any other error as it is.
func ofStore(err error) error {
	if errors.Is(err, ErrSnapshotExpired) {
		return ErrClosed
	}
	return err
}

// Has reports whether value is in the set of key.
func (s *Store) Has(key, value E) (bool, error) {
	return present(s, key, func(r reader, key E) (bool, error) { return r.has(key, value) })
}

// HasKey reports whether key has any value.
func (s *Store) HasKey(key E) (bool, error) { return present(s, key, reader.hasKey) }

// Count returns the exact number of values of key. It reads stored values only if pending
// operations name them.
func (s *Store) Count(key E) (int, error) {
	n, err := present(s, key, reader.count)
	return int(n), err
}

// present returns what read finds about key in the present state.
func present[T any](s *Store, key E, read func(reader, E) (T, error)) (found T, err error) {
	r, pin, err := s.acquire()
	if err != nil {
		return found, err
	}
	defer r.view.Unpin(pin)
	err = guard(func() (err error) { found, err = read(r, key); return err })
	return found, err
}
