package fuzz

import (
	"context"
	"errors"
	"fmt"

	"github.com/cidstore/cidstore"
)

// The steps of this file change how a store keeps its pairs, but no pair.

func (m *Machine) compact(c Source) error {
	key := m.key(c)
	if err := m.store.Compact(key); err != nil {
		return err
	}
	if n, err := m.store.TombstoneCount(key); err != nil || n != 0 {
		return fmt.Errorf("%d tombstones after a compaction, %v", n, err)
	}
	return CompareKey(m.store, m.model, key)
}

func (m *Machine) demote(c Source) error {
	key := m.key(c)
	spilled, err := m.store.ValueSetExists(key)
	if err != nil {
		return err
	}
	did, err := m.store.DemoteIfPossible(key)
	if err != nil {
		return err
	}
	after, err := m.store.ValueSetExists(key)
	if err != nil {
		return err
	}
	few := len(m.model[key]) <= 4
	if did != (spilled && few) || after != (spilled && !few) {
		return fmt.Errorf("key of %d values, spilled %t: demoted %t, spilled then %t", len(m.model[key]), spilled, did, after)
	}
	return CompareKey(m.store, m.model, key)
}

func (m *Machine) collect(c Source) error {
	if _, err := m.store.RunGCOnce(context.Background()); err != nil {
		return err
	}
	m.secured()
	if n := m.store.Metrics().Tombstones; n != 0 {
		return fmt.Errorf("%d tombstones after a collection", n)
	}
	return CompareKey(m.store, m.model, m.key(c))
}

func (m *Machine) maintain(c Source) error {
	if err := m.store.Maintain(context.Background()); err != nil {
		return err
	}
	m.secured()
	if f, err := m.store.Figures(context.Background()); err != nil || f.Runs != 0 || f.Tombstones != 0 {
		return fmt.Errorf("%d runs and %d tombstones after maintenance, %v", f.Runs, f.Tombstones, err)
	}
	return CompareKey(m.store, m.model, m.key(c))
}

func (m *Machine) migrateDirectory(c Source) error {
	if err := m.store.MigrateDirectory(context.Background()); err != nil {
		return err
	}
	m.secured()
	return CompareKey(m.store, m.model, m.key(c))
}

// shrink gives space back, or reports who holds it.
func (m *Machine) shrink(c Source) error {
	err := m.store.Shrink(context.Background())
	switch {
	case len(m.snapshots) > 0 && errors.Is(err, cidstore.ErrSpacePinned),
		len(m.readers) > 0 && errors.Is(err, cidstore.ErrLocked):
		err = nil
	case err == nil && len(m.snapshots)+len(m.readers) > 0:
		err = fmt.Errorf("beside %d snapshots and %d readers it shrank", len(m.snapshots), len(m.readers))
	}
	return errors.Join(err, CompareKey(m.store, m.model, m.key(c)))
}

// scrub finds nothing wrong, by the writer and by readers, and the journal says that it was.
func (m *Machine) scrub(c Source) error {
	if report, err := m.store.Scrub(context.Background()); err != nil || report.Corrected != 0 || report.Bytes == 0 {
		return fmt.Errorf("a scrub of a good store: %+v, %v", report, err)
	}
	if list := m.store.Journal(); len(list) == 0 || list[len(list)-1].Kind != "scrub" {
		return fmt.Errorf("after a scrub the journal has %+v", list)
	}
	for _, r := range m.readers {
		if _, err := r.store.Scrub(context.Background()); err != nil {
			return err
		}
	}
	return CompareKey(m.store, m.model, m.key(c))
}
