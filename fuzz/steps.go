package fuzz

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/vfs"
)

// step is one kind of step of a program.
type step struct {
	name     string
	weight   int // how often it is chosen, against the others
	run      func(*Machine, Source) error
	inMemory bool // needs a disk that can fail
	onDisk   bool // needs the system's file system
}

var steps = []step{
	{name: "insert", weight: 12, run: (*Machine).insert},
	{name: "batch", weight: 14, run: (*Machine).batch},
	{name: "delete", weight: 4, run: (*Machine).delete},
	{name: "delete value", weight: 6, run: (*Machine).deleteValue},
	{name: "grow or shrink a set", weight: 5, run: (*Machine).resize},
	{name: "near keys", weight: 3, run: (*Machine).storm},
	{name: "undo", weight: 2, run: (*Machine).undo},
	{name: "lookup", weight: 3, run: (*Machine).lookup},
	{name: "append lookup", weight: 3, run: (*Machine).appendLookup},
	{name: "values", weight: 3, run: (*Machine).values},
	{name: "has", weight: 3, run: (*Machine).has},
	{name: "has key", weight: 2, run: (*Machine).hasKey},
	{name: "count", weight: 2, run: (*Machine).count},
	{name: "len", weight: 2, run: (*Machine).length},
	{name: "all", weight: 2, run: (*Machine).all},
	{name: "snapshot", weight: 4, run: (*Machine).snapshot},
	{name: "read snapshot", weight: 3, run: (*Machine).readSnapshot},
	{name: "all of a snapshot", weight: 2, run: (*Machine).allOfSnapshot},
	{name: "close snapshot", weight: 2, run: (*Machine).closeSnapshot},
	{name: "checkpoint", weight: 5, run: (*Machine).checkpoint},
	{name: "interrupted checkpoint", weight: 2, run: (*Machine).interrupted},
	{name: "compact", weight: 3, run: (*Machine).compact},
	{name: "demote", weight: 3, run: (*Machine).demote},
	{name: "collect", weight: 2, run: (*Machine).collect},
	{name: "maintain", weight: 2, run: (*Machine).maintain},
	{name: "migrate directory", weight: 1, run: (*Machine).migrateDirectory},
	{name: "shrink", weight: 2, run: (*Machine).shrink},
	{name: "scrub", weight: 1, run: (*Machine).scrub},
	{name: "sync", weight: 2, run: (*Machine).sync},
	{name: "reopen", weight: 3, run: (*Machine).reopen},
	{name: "reopen otherwise", weight: 3, run: (*Machine).reopenOtherwise},
	{name: "open reader", weight: 3, run: (*Machine).openReader},
	{name: "refresh reader", weight: 4, run: (*Machine).refreshReader},
	{name: "close reader", weight: 1, run: (*Machine).closeReader},
	{name: "second writer", weight: 1, run: (*Machine).secondWriter},
	{name: "wrong log key", weight: 1, run: (*Machine).wrongKey},
	{name: "too large", weight: 1, run: (*Machine).tooLarge},
	{name: "check", weight: 3, run: (*Machine).check},
	{name: "audit", weight: 2, run: (*Machine).audit},
	{name: "clock", weight: 1, run: (*Machine).setClock},
	{name: "backup", weight: 1, run: (*Machine).backup},
	{name: "increment", weight: 1, run: (*Machine).increment},
	{name: "restore", weight: 1, run: (*Machine).restore, onDisk: true},
	{name: "power cut", weight: 4, run: (*Machine).powerCut, inMemory: true},
	{name: "fault", weight: 2, run: (*Machine).fault, inMemory: true},
	{name: "full disk", weight: 1, run: (*Machine).fullDisk, inMemory: true},
}

var totalWeight = func() (sum int) {
	for _, s := range steps {
		sum += s.weight
	}
	return sum
}()

// StepNames lists the kinds of steps that a machine in memory, or on disk, can do.
func StepNames(onDisk bool) (names []string) {
	for _, s := range steps {
		if !(s.onDisk && !onDisk || s.inMemory && onDisk) {
			names = append(names, s.name)
		}
	}
	return names
}

// hotKey is the key whose set grows and shrinks the most.
var hotKey = cidstore.FromString("hot")

// key chooses a key. Most programs meet the same few again and again.
func (m *Machine) key(c Source) E {
	switch n := c.Choose("key", 256); {
	case n < 64:
		return cidstore.FromUint64(uint64(n % 16)) // the zero identifier among them
	case n < 72:
		return hotKey
	case n < 88:
		return m.Near[n%len(m.Near)]
	case n < 92:
		return E{High: ^uint64(0), Low: ^uint64(0)}
	default:
		return cidstore.FromString(fmt.Sprint("key ", n))
	}
}

// value chooses a value.
func (m *Machine) value(c Source) E {
	switch n := c.Choose("value", 64); {
	case n < 48:
		return cidstore.FromUint64(uint64(n % 12))
	case n == 48:
		return E{High: ^uint64(0), Low: ^uint64(0)}
	default:
		return cidstore.FromString(fmt.Sprint("value ", n))
	}
}

func (m *Machine) op(c Source) Op {
	key := m.key(c)
	switch n := c.Choose("operation", 8); {
	case n < 5:
		return Op{Insert, key, m.value(c)}
	case n < 7:
		return Op{DeleteValue, key, m.value(c)}
	default:
		return Op{Kind: Delete, Key: key}
	}
}

func (m *Machine) insert(c Source) error { return m.Apply(Op{Insert, m.key(c), m.value(c)}) }

func (m *Machine) delete(c Source) error { return m.Apply(Op{Kind: Delete, Key: m.key(c)}) }

func (m *Machine) deleteValue(c Source) error {
	key := m.key(c)
	value := m.value(c)
	if there := m.model.Values(key); len(there) > 0 && c.Choose("one that is there", 2) == 1 {
		value = there[c.Choose("which", len(there))]
	}
	return m.Apply(Op{DeleteValue, key, value})
}

// maxBatch is how many operations fit into the smallest log that a machine makes.
const maxBatch = 300

func (m *Machine) batch(c Source) error {
	var ops []Op
	for range c.Choose("operations", 24) {
		ops = append(ops, m.op(c))
	}
	if ops == nil { // nothing: no effect, no frame
		return m.store.Apply(new(cidstore.Batch))
	}
	return m.Apply(ops...)
}

// applyAll applies operations in batches that the log can hold.
func (m *Machine) applyAll(ops []Op) error {
	for part := range slices.Chunk(ops, maxBatch) {
		if err := m.Apply(part...); err != nil {
			return err
		}
	}
	return nil
}

// setSizes has the sizes at which sets change their form, and neighbouring sizes.
var setSizes = []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 13, 255, 256, 257, 513, 1023, 1024, 1025, 1100, 1400}

// resize brings the set of the hot key, or of another, to a size where its form changes.
func (m *Machine) resize(c Source) error {
	key := hotKey
	if c.Choose("other key", 4) == 0 {
		key = m.key(c)
	}
	size := setSizes[c.Choose("size", len(setSizes))]
	there := m.model.Values(key)
	var ops []Op
	for len(there) > size {
		i := c.Choose("which", len(there))
		ops = append(ops, Op{DeleteValue, key, there[i]})
		there = slices.Delete(there, i, i+1)
	}
	step := uint64(1 + 2*c.Choose("distance", 8)) // odd: 4096 values before one comes again
	for v := uint64(0); len(there) < size; v += step {
		if value := cidstore.FromUint64(v % (1 << 12)); !m.model.Has(key, value) {
			there = append(there, value)
			ops = append(ops, Op{Insert, key, value})
		}
	}
	return m.applyAll(ops)
}

// storm inserts, or removes, keys whose hashes begin alike.
func (m *Machine) storm(c Source) error {
	remove := c.Choose("remove", 3) == 0
	var ops []Op
	for _, key := range m.Near {
		op := Op{Kind: Delete, Key: key}
		if !remove {
			op = Op{Insert, key, m.value(c)}
		}
		ops = append(ops, op)
	}
	return m.applyAll(ops)
}

// undo applies an operation and its inverse, which leaves the contents as they were.
func (m *Machine) undo(c Source) error {
	before := m.model.Clone()
	key, value := m.key(c), m.value(c)
	do, back := Op{Insert, key, value}, Op{DeleteValue, key, value}
	if m.model.Has(key, value) {
		do, back = back, do
	}
	if err := m.Apply(do); err != nil {
		return err
	}
	if c.Choose("checkpoint between", 2) == 1 {
		if err := m.Checkpoint(); err != nil {
			return err
		}
	}
	if err := m.Apply(back); err != nil {
		return err
	}
	return CompareKey(m.store, before, key)
}

func (m *Machine) lookup(c Source) error { return CompareKey(m.store, m.model, m.key(c)) }

func (m *Machine) appendLookup(c Source) error {
	key, before := m.key(c), []E{{High: 1}, {}}
	got, err := m.store.AppendLookup(slices.Clone(before), key)
	if err != nil {
		return err
	}
	if want := append(before, m.model.Values(key)...); !slices.Equal(got, want) {
		return fmt.Errorf("%v: %s", key, difference(got, want))
	}
	return nil
}

func (m *Machine) values(c Source) error {
	limits := [...]int{1 << 30, 0, 1, 3, 1024, 1025}
	return CompareValues(m.store, m.model, m.key(c), limits[c.Choose("limit", len(limits))])
}

func (m *Machine) has(c Source) error { return CompareHas(m.store, m.model, m.key(c), m.value(c)) }

func (m *Machine) hasKey(c Source) error {
	key := m.key(c)
	if ok, err := m.store.HasKey(key); err != nil || ok != (len(m.model[key]) > 0) {
		return fmt.Errorf("%v: %v, %v; want %v", key, ok, err, !ok)
	}
	return nil
}

func (m *Machine) count(c Source) error {
	key := m.key(c)
	if n, err := m.store.Count(key); err != nil || n != len(m.model[key]) {
		return fmt.Errorf("%v: %d, %v; want %d", key, n, err, len(m.model[key]))
	}
	return nil
}

func (m *Machine) length(Source) error {
	err := CompareLen(m.store, m.model)
	m.secured() // by its checkpoint
	return err
}

func (m *Machine) all(Source) error {
	v, err := m.store.Snapshot()
	if err != nil {
		return err
	}
	return errors.Join(CompareAll(v, m.model), v.Close())
}

// maxHeld limits how many are open at a time.
const maxHeld = 4

func (m *Machine) snapshot(c Source) error {
	if len(m.snapshots) == maxHeld {
		return m.closeSnapshot(c)
	}
	v, err := m.store.Snapshot()
	if err != nil {
		return err
	}
	m.snapshots = append(m.snapshots, held{v, m.model.Clone()})
	return nil
}

func (m *Machine) readSnapshot(c Source) error {
	if len(m.snapshots) == 0 {
		return m.snapshot(c)
	}
	h := m.snapshots[c.Choose("snapshot", len(m.snapshots))]
	key := m.key(c)
	if err := CompareKey(h.view, h.model, key); err != nil {
		return err
	}
	if err := CompareHas(h.view, h.model, key, m.value(c)); err != nil {
		return err
	}
	return CompareValues(h.view, h.model, key, 1+c.Choose("limit", 2000))
}

func (m *Machine) allOfSnapshot(c Source) error {
	if len(m.snapshots) == 0 {
		return m.snapshot(c)
	}
	h := m.snapshots[c.Choose("snapshot", len(m.snapshots))]
	return CompareAll(h.view, h.model)
}

func (m *Machine) closeSnapshot(c Source) error {
	if len(m.snapshots) == 0 {
		return nil
	}
	i := c.Choose("snapshot", len(m.snapshots))
	h := m.snapshots[i]
	m.snapshots = slices.Delete(m.snapshots, i, i+1)
	if err := errors.Join(CompareAll(h.view, h.model), h.view.Close()); err != nil {
		return err
	}
	if _, err := h.view.Lookup(hotKey); !errors.Is(err, cidstore.ErrClosed) {
		return fmt.Errorf("lookup in a closed snapshot: %w", err)
	}
	return nil
}

func (m *Machine) checkpoint(Source) error { return m.Checkpoint() }

// Checkpoint puts everything into the tree.
func (m *Machine) Checkpoint() error {
	if err := m.store.Checkpoint(context.Background()); err != nil {
		return err
	}
	m.secured()
	if n := m.store.Metrics().PendingOperations; n != 0 {
		return fmt.Errorf("%d operations are pending after it", n)
	}
	return nil
}

// interrupted asks for a checkpoint with a cancelled context, which must change nothing.
func (m *Machine) interrupted(c Source) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	pending := m.store.Metrics().PendingOperations
	err := m.store.Checkpoint(ctx)
	if pending > 0 && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("with a context that is over: %w", err)
	}
	return CompareKey(m.store, m.model, m.key(c))
}

func (m *Machine) sync(Source) error {
	if err := m.store.Sync(); err != nil {
		return err
	}
	m.secured()
	return nil
}

func (m *Machine) check(Source) error { return Sound(m.store) }

func (m *Machine) audit(c Source) error { return m.store.AuditWAL(c.Choose("sample", 5)) }

// setClock moves the clock, more often back than forth. Nothing may depend on it.
func (m *Machine) setClock(c Source) error {
	hours := time.Duration(c.Choose("hours", 200) - 150)
	m.clock = m.clock.Add(hours * time.Hour)
	return nil
}

// refused wants an opening to fail with an error that has a text.
func (m *Machine) refused(o *cidstore.Options, want error, text string) error {
	s, err := cidstore.Open(m.path, o)
	if err == nil {
		return errors.Join(errors.New("it opened"), s.Close())
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		return fmt.Errorf("want %v and %q: %w", want, text, err)
	}
	return nil
}

func (m *Machine) secondWriter(Source) error {
	return m.refused(m.choices(), cidstore.ErrLocked, fmt.Sprintf("process %d", vfs.ProcessID()))
}

func (m *Machine) wrongKey(Source) error {
	o := m.readOnly()
	o.WALKey = append(slices.Clone(o.WALKey), 'x')
	return m.refused(o, cidstore.ErrWALKey, "")
}

func (m *Machine) tooLarge(c Source) error {
	ops := make([]Op, m.options.WALBytes/64)
	for i := range ops {
		ops[i] = Op{Insert, hotKey, cidstore.FromUint64(uint64(i))}
	}
	if err := m.store.Apply(BatchOf(ops)); !errors.Is(err, cidstore.ErrTooLarge) {
		return fmt.Errorf("batch of %d: want ErrTooLarge: %w", len(ops), err)
	}
	return CompareKey(m.store, m.model, hotKey)
}

// backup copies the store, opens the copy, and compares it.
func (m *Machine) backup(Source) error {
	path := m.path + ".copy"
	if err := m.dropCopy(path); err != nil {
		return err
	}
	if err := m.store.Backup(context.Background(), path); err != nil {
		return err
	}
	m.secured()
	if err := m.store.Backup(context.Background(), path); !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("over an existing file: %w", err)
	}
	s, err := cidstore.Open(path, m.choices())
	if err != nil {
		return fmt.Errorf("open the copy: %w", err)
	}
	err = errors.Join(CompareStore(s, m.model), Sound(s), s.Insert(hotKey, E{High: 77}))
	return errors.Join(err, s.Close(), m.fs.Remove(path))
}

// dropCopy checks and removes a backup that a power cut left. It must be complete, because
// only complete ones get their name. dropCopy opens it for writing, because the cut may have
// torn the slot that was written last, which the Check of a reader would report.
func (m *Machine) dropCopy(path string) error {
	if _, err := m.fs.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	o := m.readOnly()
	o.ReadOnly, o.GCInterval = false, -1
	s, err := cidstore.Open(path, o)
	if err != nil {
		return fmt.Errorf("a copy that was under way: %w", err)
	}
	return errors.Join(Sound(s), s.Close(), m.fs.Remove(path))
}

// increment makes a full backup, two increments since then, each after a batch, and
// another store of all three.
func (m *Machine) increment(c Source) error {
	ctx := context.Background()
	made := m.path + ".restored"
	backups := []string{m.path + ".full", m.path + ".first", m.path + ".second"}
	for _, path := range append(backups, made) { // a power cut may have brought them back
		if err := m.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for i, path := range backups {
		if err := m.batch(c); err != nil {
			return err
		}
		if err := m.store.BackupWith(ctx, path, &cidstore.BackupOptions{Since: backups[:i]}); err != nil {
			return fmt.Errorf("backup %d: %w", i, err)
		}
		m.secured()
	}
	if err := cidstore.VerifyBackup(ctx, backups, m.choices(), nil); err != nil {
		return err
	}
	if err := cidstore.RestoreSeries(ctx, backups, made, m.choices(), nil); err != nil {
		return err
	}
	s, err := cidstore.Open(made, m.choices())
	if err != nil {
		return fmt.Errorf("open what is restored: %w", err)
	}
	err = errors.Join(CompareStore(s, m.model), Sound(s), s.Close())
	for _, path := range append(backups, made) {
		err = errors.Join(err, m.fs.Remove(path))
	}
	return err
}

// restore makes a store from a backup, and puts it into the place of the present one.
func (m *Machine) restore(c Source) error {
	copied := m.path + ".copy"
	if err := m.store.Backup(context.Background(), copied); err != nil {
		return err
	}
	want := m.model.Clone()
	if err := m.batch(c); err != nil {
		return err
	}
	if err := cidstore.Restore(context.Background(), copied, m.path); !errors.Is(err, cidstore.ErrLocked) {
		return fmt.Errorf("over a store in use: %w", err)
	}
	if err := errors.Join(m.endReaders(), m.store.Close()); err != nil {
		return err
	}
	if err := cidstore.Restore(context.Background(), copied, m.path); err != nil {
		return err
	}
	m.model = want
	m.record()
	return errors.Join(m.open(), CompareStore(m.store, m.model), m.fs.Remove(copied))
}
