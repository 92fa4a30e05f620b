package cidstore

import (
	"errors"
	"iter"
	"strings"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/directory"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/valueset"
)

// view is one committed root with the handles that read it. It is immutable.
type view struct {
	*hdf5io.View
	record    record
	directory *directory.Directory
	buckets   *bucket.Table
	sets      *valueset.Table
	hasher    keys.Hasher
}

// group is a group that the directory leads to, with its state.
type group struct {
	directory.Run
	id    uint32
	state bucket.State
}

// groups yields all groups in order of their hashes, from the group of a hash on, each
// with the error of its state.
func (v *view) groups(hash uint64) iter.Seq2[group, error] {
	return func(yield func(group, error) bool) {
		for run := range v.directory.From(hash) {
			if !yield(v.groupOf(run)) {
				return
			}
		}
	}
}

// group returns the group of a hash.
func (v *view) group(hash uint64) (group, error) { return v.groupOf(v.directory.Run(hash)) }

func (v *view) groupOf(run directory.Run) (g group, err error) {
	g = group{Run: run, id: run.Pointer.Bucket}
	g.state, err = v.buckets.State(g.id)
	return g, err
}

// state is what readers see. It is replaced, and its pointers never change.
type state struct {
	fresh  *table // takes what is written now
	frozen *table // is being merged into the tree; nil if no checkpoint is under way
	view   *view
	memos  memos
}

// acquire pins the present state for reading, at the cost of two uncontended atomics. It
// pins the View first and then loads the pointer again, so that it never returns a View
// whose space is being freed.
func (s *Store) acquire() (reader, hdf5io.Pin, error) {
	for {
		st := s.state.Load()
		if st == nil {
			return reader{}, 0, ErrClosed
		}
		pin := st.view.Pin()
		if s.state.Load() == st {
			return reader{state: st, visible: st.fresh.through(), memos: &st.memos}, pin, nil
		}
		st.view.Unpin(pin)
	}
}

// openView makes the handles that read a root.
func (s *Store) openView(root *hdf5io.View, r record, d *directory.Directory) (*view, error) {
	var known *bucket.Table
	var knownSets *valueset.Table
	if st := s.state.Load(); st != nil {
		known, knownSets = st.view.buckets, st.view.sets
	}
	v := &view{View: root, record: r, directory: d, hasher: keys.NewHasher(r.hashSeed)}
	verify := bucket.FirstTouch
	switch {
	case s.opts.Verify == VerifyAlways:
		verify = bucket.Always
	case s.opts.Salvage:
		verify = bucket.Salvage
	}
	var err error
	v.buckets, err = bucket.NewTable(root, bucket.NewGeometry(int(r.splitThreshold)), root.UUID(), v.hasher, verify, known)
	if err != nil {
		return nil, err
	}
	v.buckets.CountIn(&s.metrics.damage)
	if got := v.buckets.RunsSum(); got != r.runsCRC {
		return nil, corrupt.Errorf("store record", recRunsCRC, "runs_crc32c %#08x, but that of the attribute runs of /runs is %#08x", r.runsCRC, got)
	}
	v.sets, err = valueset.NewTable(root, root.UUID(), verify == bucket.Always, knownSets)
	if err != nil && s.opts.Salvage {
		s.readPast(err)
		err = nil
	}
	s.noteGrowth(root.EndOfFile(), int64(r.walSize))
	s.seen.add(root.Commit(), s.opts.Clock())
	return v, err
}

// readPast notes damage that Options.Salvage reads past. It notes it once, though roots are
// read again and again.
func (s *Store) readPast(damage error) {
	if damage == nil || s.recovery.Salvaged != nil && strings.Contains(s.recovery.Salvaged.Error(), damage.Error()) {
		return
	}
	s.recovery.Salvaged = errors.Join(s.recovery.Salvaged, damage)
}

// loadView reads the record and the directory of the file's newest root.
func (s *Store) loadView(root *hdf5io.View) (*view, error) {
	r, err := parseRecord(root.Payload(), root.EndOfFile())
	if err == nil {
		err = r.agrees(root)
	}
	if err != nil && r.splitThreshold > 0 && s.opts.Salvage {
		s.readPast(err)
		err = nil
	}
	if err != nil {
		return nil, err
	}
	var v *view
	err = guard(func() error {
		d, err := directory.Load(root, int(r.globalDepth), r.numGroups, s.opts.directory)
		if err != nil {
			return err
		}
		v, err = s.openView(root, r, d)
		return err
	})
	return v, err
}
