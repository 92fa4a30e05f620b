package cidstore

import (
	"fmt"
	"slices"

	"github.com/cidstore/cidstore/bucket"
	"github.com/cidstore/cidstore/gc"
	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/valueset"
	"github.com/cidstore/cidstore/wal"
)

// demand bounds what one commit places that puts operations into the tree and folds no group:
// see checkpoint.sure. docs/CRASH.md, "What is promised on a full disk", has the reasons.
type demand struct {
	entries int64 // of a run
	deletes uint64
	sets    valueset.Demand
}

// count adds the demand of a batch. It looks at the entries of its keys, and at the inner
// nodes of their sets.
func (d *demand) count(v *view, ops []wal.Op) error {
	st := state{fresh: newTable(0, false), view: v}
	st.add(1, 0, ops)
	st.fresh.publish(wal.Seq(len(ops)))
	return d.countAll(v, newQueue(st.fresh, 0))
}

// countAll is count for the operations of a table.
func (d *demand) countAll(v *view, left queue) error {
	if n := v.buckets.Runs(); n > mostRuns {
		return fmt.Errorf("%d runs wait to be folded, want at most %d: %w", n, mostRuns, ErrNoSpace)
	}
	for left.len() > 0 {
		if err := d.countKey(v, left.takeKey()); err != nil {
			return err
		}
	}
	return nil
}

// countKey adds the demand of the operations of a batch on one key.
func (d *demand) countKey(v *view, ops []*op) error {
	values, deletes, all := make([]E, len(ops)), int64(0), false
	for i, o := range ops {
		values[i] = o.value
		switch o.code {
		case wal.Insert:
			continue
		case wal.Delete:
			all = true
		case wal.DeleteValue:
		default: // all of a set may be written again
			return fmt.Errorf("operation %d: %w", o.code, ErrNoSpace)
		}
		deletes++
	}
	d.entries, d.deletes = d.entries+1, d.deletes+uint64(deletes)
	o := ops[0]
	entry, found, err := v.buckets.Find(v.directory.Bucket(o.hash), o.hash, o.key)
	if err != nil {
		return err
	}
	id, spilled := uint64(0), false
	if found {
		id, spilled = entry.Spilled()
	}
	if !spilled {
		d.sets.Add(valueset.NewSet(int64(entry.Count()), int64(len(ops))-deletes))
		return nil
	}
	set, err := v.sets.Open(id, o.key)
	if err != nil {
		return err
	}
	slices.SortFunc(values, E.Compare)
	more, err := set.Demand(values, deletes, all)
	d.sets.Add(more)
	return err
}

const (
	// mostRuns is half of what a root can name, so that slices can add some.
	mostRuns = 256
	// commitBytes bounds what a commit that writes a run adds to headers: those of the run's
	// four datasets, the links to them, and what attributes become longer.
	commitBytes = 8 << 10
	// headerBytes bounds by how much one header becomes longer then.
	headerBytes = 2 << 10
)

// total returns all that the commit places, and the longest piece, after a root and its record.
func (d demand) total(root *hdf5io.View, r *record) hdf5io.Demand {
	bytes, piece, edits := d.sets.Total(r.sets)
	rows, chunk, deletions := gc.Demand(d.deletes)
	change, longest := root.RoomToChange(append(edits, deletions))
	return hdf5io.Demand{
		Bytes: bytes + rows + bucket.RunBytes(d.entries) + commitBytes + change,
		Piece: max(piece, chunk, longest+headerBytes, d.entries*bucket.EntrySize),
	}
}

// room returns the room for the commit, and a step beside it.
func (d demand) room(root *hdf5io.View, r *record) hdf5io.Room {
	all, step := d.total(root, r), r.step(root)
	return hdf5io.Room{Commit: hdf5io.Demand{Bytes: all.Bytes + step.Bytes, Piece: max(all.Piece, step.Piece)}}
}

// step bounds what the least commit of a checkpoint places, which changes one value of one
// key. goAhead and slices of one group come down to it.
func (s *Store) step() hdf5io.Demand {
	v := s.state.Load().view
	return v.record.step(v.View)
}

func (r *record) step(root *hdf5io.View) hdf5io.Demand {
	return demand{entries: 1, deletes: 1, sets: r.sets.Least()}.total(root, r)
}
