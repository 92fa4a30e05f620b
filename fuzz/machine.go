package fuzz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/vfs"
)

// Config says where the store of a machine is and how it is made.
type Config struct {
	// Dir is a directory of the operating system. "" means a file system in memory,
	// which can lose its power, fill up and fail.
	Dir string
	// Seed is the seed of the random numbers that the store draws.
	Seed uint64
	// Options are those of the first opening. The machine sets FS, Clock, Rand and
	// GCInterval: without goroutines the calls are the same each time.
	Options cidstore.Options
	// Tune, unless it is nil, may change the options of each opening last. The store's own
	// tests set there what is not exported.
	Tune func(*cidstore.Options)
}

// Machine runs steps on a store and on its model. It is not safe for concurrent use.
type Machine struct {
	// Did has the number of steps done, by name.
	Did map[string]int
	// Steps holds the names of the steps done, in order, for a report.
	Steps []string
	// Near has keys whose hashes begin alike, too much for small buckets to tell apart.
	Near []E

	config  Config
	path    string
	disk    *crashfs.FS // nil: Config.Dir
	trace   *crashfs.Trace
	faults  *errfs.FS
	fs      vfs.FS
	clock   time.Time
	opens   uint64
	options cidstore.Options

	store     *cidstore.Store
	model     Model
	snapshots []held
	readers   []follower

	base Model  // what the recording began with
	past [][]Op // batches issued since
	kept int    // of them, that may not be lost
}

// held is an open snapshot and what it must answer.
type held struct {
	view  *cidstore.Snapshot
	model Model
}

// follower is a read-only store and what it must answer until its next Refresh.
type follower struct {
	store *cidstore.Store
	model Model
}

// Marks in the trace of the file system: numbers of batches since the recording began.
type (
	issued    int // how many were begun
	durable   int // how many must not be lost
	withdrawn int // how many there are without the last one, which was refused
)

// seedPattern is the first random number that a new store draws, so that the machine knows
// the seed of its hashes.
const seedPattern = 0x9e3779b97f4a7c15

// New opens a new store.
func New(config Config) (*Machine, error) {
	m := &Machine{
		Did: make(map[string]int), config: config, model: make(Model), base: make(Model),
		options: config.Options, clock: time.Unix(1_700_000_000, 0),
	}
	m.Near = NearKeys()
	if config.Dir == "" {
		m.path = "db/store.h5"
		m.use(crashfs.New(crashfs.Options{FileLimit: 32 << 20}))
	} else {
		m.path = filepath.Join(config.Dir, "store.h5")
		m.faults = errfs.New(vfs.OS())
		m.fs = m.faults
	}
	return m, m.open()
}

// use makes the machine use disk, as it is now, and records what happens to it. Nothing is
// open on the disk before it.
func (m *Machine) use(disk *crashfs.FS) {
	if m.disk != nil {
		m.disk.Release()
	}
	m.disk = disk
	m.faults = errfs.New(disk)
	m.fs = m.faults
	m.trace = disk.Record()
}

// forget makes the present contents those that the past begins with.
func (m *Machine) forget() { m.base, m.past, m.kept = m.model.Clone(), nil, 0 }

// record does what forget does, and makes now the earliest moment for power cuts.
func (m *Machine) record() {
	m.forget()
	if m.disk != nil {
		m.trace = m.disk.Record()
	}
}

func (m *Machine) mark(note any) {
	if m.disk != nil {
		m.disk.Mark(note)
	}
}

// secured notes that everything issued may not be lost any more.
func (m *Machine) secured() {
	m.kept = len(m.past)
	m.mark(durable(m.kept))
}

// randomness returns what the store reads as random bytes during one opening.
func (m *Machine) randomness() io.Reader {
	m.opens++
	seed := m.config.Seed<<32 + m.opens
	if info, err := m.fs.Stat(m.path); err == nil && info.Size > 0 {
		return seeded(seed)
	}
	return Patterned(seed)
}

func seeded(seed uint64) io.Reader {
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	return rand.NewChaCha8(s)
}

// Patterned returns a random source with which a new store hashes as NearKeys wants.
func Patterned(seed uint64) io.Reader {
	word := binary.LittleEndian.AppendUint64(nil, seedPattern)
	return io.MultiReader(bytes.NewReader(bytes.Repeat(word, 8)), seeded(seed))
}

// NearKeys returns keys whose hashes in stores of Patterned have their first 14 bits in
// common. That is far more than a directory of small buckets can tell apart.
var NearKeys = sync.OnceValue(func() (near []E) {
	hasher := keys.NewHasher([2]uint64{seedPattern, seedPattern})
	for i := uint64(0); len(near) < 40; i++ {
		if key := (E{High: 1 << 40, Low: i}); hasher.Hash(key)>>50 == 0x1555 {
			near = append(near, key)
		}
	}
	return near
})

// choices are the options of the next opening.
func (m *Machine) choices() *cidstore.Options {
	o := m.options
	o.FS, o.Rand, o.GCInterval, o.ScrubRate = m.fs, m.randomness(), -1, -1
	o.Clock = func() time.Time {
		m.clock = m.clock.Add(time.Millisecond)
		return m.clock
	}
	if m.config.Tune != nil {
		m.config.Tune(&o)
	}
	return &o
}

// readOnly returns the options of a reader beside the writer.
func (m *Machine) readOnly() *cidstore.Options {
	o := m.choices()
	o.ReadOnly = true
	return o
}

func (m *Machine) open() error {
	s, err := cidstore.Open(m.path, m.choices())
	if err != nil {
		return err
	}
	m.store = s
	return nil
}

// Apply makes a batch on the store and on the model.
func (m *Machine) Apply(ops ...Op) error {
	m.past = append(m.past, ops)
	m.mark(issued(len(m.past)))
	if err := m.write(ops); err != nil {
		return fmt.Errorf("batch of %d: %w", len(ops), err)
	}
	m.model.Apply(ops)
	if m.options.Durability == cidstore.Sync {
		m.secured()
	}
	return nil
}

// write makes a batch on the store, a single operation by its own method.
func (m *Machine) write(ops []Op) error {
	if len(ops) != 1 {
		return m.store.Apply(BatchOf(ops))
	}
	switch o := ops[0]; o.Kind {
	case Insert:
		return m.store.Insert(o.Key, o.Value)
	case DeleteValue:
		return m.store.DeleteValue(o.Key, o.Value)
	default:
		return m.store.Delete(o.Key)
	}
}

// maxHeldSteps limits how long a snapshot or reader is open. The space of what it sees
// cannot be used again, and the disk is small.
const maxHeldSteps = 64

// Step runs one step of the source's choice.
func (m *Machine) Step(c Source) error {
	if len(m.Steps)%maxHeldSteps == maxHeldSteps-1 {
		if err := m.endReaders(); err != nil {
			return err
		}
	}
	n := c.Choose("step", totalWeight)
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			m.Steps = append(m.Steps, s.name)
			if s.onDisk && m.disk != nil || s.inMemory && m.disk == nil {
				return nil
			}
			m.Did[s.name]++
			if err := s.run(m, c); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			return nil
		}
	}
	return nil
}

// endReaders compares and closes snapshots and readers.
func (m *Machine) endReaders() error {
	for _, h := range m.snapshots {
		if err := errors.Join(CompareAll(h.view, h.model), h.view.Close()); err != nil {
			return fmt.Errorf("snapshot: %w", err)
		}
	}
	for _, f := range m.readers {
		if err := errors.Join(CompareStore(f.store, f.model), f.store.Close()); err != nil {
			return fmt.Errorf("reader: %w", err)
		}
	}
	m.snapshots, m.readers = nil, nil
	return nil
}

// Finish compares everything, before and after a last reopening, and closes the store.
func (m *Machine) Finish() error {
	if err := m.endReaders(); err != nil {
		return err
	}
	for range 2 {
		if err := errors.Join(CompareStore(m.store, m.model), Sound(m.store), m.store.Close()); err != nil {
			return fmt.Errorf("at the end: %w", err)
		}
		if err := m.open(); err != nil {
			return fmt.Errorf("reopen: %w", err)
		}
	}
	err := m.store.Close()
	if m.disk != nil {
		m.disk.Release()
	}
	return err
}

// Abandon closes everything that is open, whatever state it is in.
func (m *Machine) Abandon() {
	if m.disk != nil {
		m.disk.Crash()
	}
	var errs []error
	for _, h := range m.snapshots {
		errs = append(errs, h.view.Close())
	}
	for _, f := range m.readers {
		errs = append(errs, f.store.Close())
	}
	_ = errors.Join(append(errs, m.store.Close())...) // without power every error is expected
	m.snapshots, m.readers = nil, nil
}
