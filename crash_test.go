package cidstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
	"github.com/cidstore/cidstore/wal"
)

// The campaigns of this file run a workload on a file system in memory that
// remembers what was synced, crash it at every write and sync in every way of
// the fault model, open what is left, and compare with what was acknowledged.

// smallOptions make every structure small, so that splits, promotions, slices,
// laps and growth of the ring happen within a hundred batches. No goroutines: the
// same calls in the same order each time.
func smallOptions(f vfs.FS) *Options {
	clock := int64(1_700_000_000_000_000_000)
	return &Options{
		FS: f, SplitThreshold: 8, GCInterval: -1, WALBytes: 64 * 512, MemoryBudget: 1 << 20,
		Clock:      func() time.Time { return time.Unix(0, atomic.AddInt64(&clock, 1000)) },
		Rand:       rand.NewChaCha8([32]byte{7}),
		blockBytes: 512, growBytes: 32 << 10, sliceBytes: 6 << 10,
	}
}

// readOnly makes options those of a reader.
func readOnly(o *Options) *Options {
	o.ReadOnly = true
	return o
}

// contents is what a store holds, as a set of pairs.
type contents map[E]map[E]bool

func (c contents) add(key, value E) {
	if c[key] == nil {
		c[key] = map[E]bool{}
	}
	c[key][value] = true
}

func (c contents) apply(ops []wal.Op) {
	for _, o := range ops {
		switch o.Code {
		case wal.Insert:
			c.add(o.Key, o.Value)
		case wal.Delete:
			delete(c, o.Key)
		case wal.DeleteValue:
			delete(c[o.Key], o.Value)
			if len(c[o.Key]) == 0 {
				delete(c, o.Key)
			}
		}
	}
}

// print is a fingerprint of a set of pairs, whatever their order.
type print struct{ pairs, sum uint64 }

func (p *print) add(k, v E) {
	p.pairs++
	p.sum += mix64(k.High ^ mix64(k.Low^mix64(v.High^mix64(v.Low+1))))
}

func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (c contents) print() (p print) {
	for k, values := range c {
		for v := range values {
			p.add(k, v)
		}
	}
	return p
}

func printOf(s *Store) (p print, err error) {
	v, err := s.Snapshot()
	if err != nil {
		return p, err
	}
	defer v.Close()
	return printOfSnapshot(v)
}

func printOfSnapshot(v *Snapshot) (p print, err error) {
	for k, value := range v.All() {
		p.add(k, value)
	}
	return p, v.Err()
}

// Marks in the trace.
type (
	issued int // batch n is about to be written
	acked  int // batch n was acknowledged
)

// scenario is one run of a workload under recording.
type scenario struct {
	t       *testing.T
	tune    func(*Options) // how its options differ from the small ones; nil: not
	fs      *crashfs.FS
	store   *Store
	model   contents
	batches [][]wal.Op
	prints  []print             // prints[n]: after n batches
	acked   int                 // batches, of those that are tried
	copied  bool                // there is a backup
	held    map[heldFile]bool   // files that are good
	judged  map[judgedImage]int // what was found on disks that are good
	random  *rand.Rand
}

const crashPath = "db/s.h5"

func newScenario(t *testing.T, seed uint64, tune func(*Options)) *scenario {
	return &scenario{
		t: t, tune: tune, fs: crashfs.New(crashfs.Options{FileLimit: 8 << 20}), model: contents{},
		held: map[heldFile]bool{}, judged: map[judgedImage]int{},
		prints: []print{{}}, random: rand.New(rand.NewPCG(seed, 1)),
	}
}

// options are those of the workload, on some file system.
func (c *scenario) options(f vfs.FS) *Options {
	o := smallOptions(f)
	if c.tune != nil {
		c.tune(o)
	}
	return o
}

func (c *scenario) open() {
	c.t.Helper()
	o := c.options(c.fs)
	s := mustGet(Open(crashPath, o))(c.t)
	willCheck(c.t, crashPath, o)
	c.store = s
}

func (c *scenario) close() {
	c.t.Helper()
	mustDo(c.t, c.store.Close())
}

// apply writes one batch, and notes that it is durable.
func (c *scenario) apply(ops ...wal.Op) {
	c.t.Helper()
	c.accept(ops...)
	c.fs.Mark(acked(len(c.batches) - 1))
}

// do runs something that changes no pair.
func (c *scenario) do(f func() error) {
	c.t.Helper()
	mustDo(c.t, f())
}

// accept writes one batch.
func (c *scenario) accept(ops ...wal.Op) {
	c.t.Helper()
	n := len(c.batches)
	c.batches = append(c.batches, ops)
	c.model.apply(ops)
	c.prints = append(c.prints, c.model.print())
	c.fs.Mark(issued(n))
	mustDo(c.t, c.store.Apply(&Batch{ops: ops}))
}

func ins(k, v uint64) wal.Op {
	return wal.Op{Code: wal.Insert, Key: FromUint64(k), Value: FromUint64(v)}
}
func del(k uint64) wal.Op { return wal.Op{Code: wal.Delete, Key: FromUint64(k)} }
func delv(k, v uint64) wal.Op {
	return wal.Op{Code: wal.DeleteValue, Key: FromUint64(k), Value: FromUint64(v)}
}

// campaignVariable makes the campaigns run at full length: scripts/crash sets it.
const campaignVariable = "CIDSTORE_CAMPAIGN"

// shortCampaign reports whether a sample is enough, as in go test of everything.
func shortCampaign() bool { return testing.Short() || os.Getenv(campaignVariable) != "1" }

// campaign returns sample where a sample is enough, and all in a campaign.
func campaign[T any](sample, all T) T {
	if shortCampaign() {
		return sample
	}
	return all
}

// crashBudget is how many distinct images a campaign looks at in all.
func crashBudget(t *testing.T) int {
	if text := os.Getenv("CIDSTORE_CRASH_IMAGES"); text != "" {
		return mustGet(strconv.Atoi(text))(t)
	}
	if shortCampaign() {
		return 2_000 / invariants.Sparse
	}
	return 33_340 // shared by all workloads
}

func crashSeed(t *testing.T) uint64 {
	seed := uint64(1)
	if text := os.Getenv("CIDSTORE_SEED"); text != "" {
		seed = mustGet(strconv.ParseUint(text, 10, 64))(t)
	}
	t.Logf("seed %d (CIDSTORE_SEED)", seed)
	return seed
}

// TestCrashEnumeration cuts the power at every call of every workload, round after
// round with other seeds until the budget of images is used up.
func TestCrashEnumeration(t *testing.T) {
	seed, total := crashSeed(t), crashBudget(t)
	workloads := invariants.Sample(crashWorkloads)
	for _, w := range workloads {
		t.Run(strings.ReplaceAll(w.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			Unchecked(t, crashPath, "the images are")
			share := total / len(workloads)
			images, calls, nested := 0, 0, 0
			classes := map[crashfs.Class]int{}
			for round := uint64(0); images < share; round++ {
				c := newScenario(t, seed+round, w.tune)
				trace := c.fs.Record()
				w.run(c)
				trace.Stop()
				calls += trace.Len()
				// A small budget is spread over all cuts and all classes.
				shards := max(1, 4*trace.Len()/share)
				e := trace.Enumerate(crashfs.Plan{
					Seed: seed + round, PerCut: max(4, 2*share/trace.Len()), Shards: shards, Shard: int(round) % shards,
				})
				for image := range e.Images() {
					classes[image.Class]++
					deeper := 0
					if images%100 == 10 {
						deeper = 2
					}
					n, err := c.survives(image, deeper)
					mustAt(t, err, "round", round, image)
					nested += n
					if images++; images >= share && round > 0 {
						break
					}
				}
			}
			t.Logf("%d calls, %d distinct images by class %v, %d images of crashes in a recovery", calls, images, classes, nested)
			if images == 0 || nested == 0 {
				t.Fatal("no image was looked at")
			}
		})
	}
}

// window is the number of batches acknowledged, and issued, before a crash.
func window(marks []any) (ack, issue int) {
	for _, m := range marks {
		switch m := m.(type) {
		case issued:
			issue = int(m) + 1
		case acked:
			ack = int(m) + 1
		}
	}
	return ack, issue
}

// survives opens a disk that a crash left and expects I1 to I4: every acknowledged batch is
// there, and all or nothing of the one in flight; the file passes Check, takes writes, and
// holds the same after another Open. deeper is how many further crashes hit the recovery
// itself. survives returns the number of their images.
func (c *scenario) survives(image *crashfs.Image, deeper int) (nested int, err error) {
	ack, issue := window(image.Marks)
	return c.survivesOn(image.FS(), ack, issue, seedOf(image), deeper)
}

// seedOf returns a seed that differs from image to image.
func seedOf(image *crashfs.Image) uint64 {
	return uint64(image.Cut)<<32 | uint64(image.Class)<<24 | uint64(image.Index)
}

func (c *scenario) survivesOn(disk *crashfs.FS, ack, issue int, seed uint64, deeper int) (nested int, err error) {
	if deeper == 0 {
		return 0, c.recovered(disk, ack, issue, true)
	}
	disk = disk.Copy()
	defer disk.Release()
	trace := disk.Record()
	if err := c.recovered(disk, ack, issue, false); err != nil {
		return 0, err
	}
	trace.Stop()
	for again := range trace.Enumerate(crashfs.Plan{Seed: seed, PerCut: 2}).Images() {
		below := 0
		if nested%50 == 25 {
			below = deeper - 1
		}
		n, err := c.survivesOn(again.FS(), ack, issue, seedOf(again), below)
		if err != nil {
			return nested, fmt.Errorf("crash in the recovery at %v: %w", again, err)
		}
		nested += 1 + n
	}
	return nested, nil
}

// recovered opens the store on a disk and checks it; if further is set, it writes to it too.
func (c *scenario) recovered(disk vfs.FS, ack, issue int, further bool) error {
	if _, err := disk.Stat(crashPath); errors.Is(err, fs.ErrNotExist) && ack == 0 && !further {
		return nil
	}
	s, err := Open(crashPath, c.options(disk))
	if err != nil {
		return err
	}
	got, err := c.stateOf(s, ack, issue)
	if err != nil {
		return errors.Join(err, closeAll(s))
	}
	if !further {
		return s.Close()
	}
	model := contents{}
	for _, ops := range c.batches[:got] {
		model.apply(ops)
	}
	for i := range uint64(4) {
		ops := []wal.Op{ins(5000+i, i), ins(i, 6000), delv(7, i), ins(7, 9000+i)}
		model.apply(ops)
		if err := s.Apply(&Batch{ops: ops}); err != nil {
			return errors.Join(fmt.Errorf("write after recovery: %w", err), closeAll(s))
		}
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("close after recovery: %w", err)
	}
	s, err = Open(crashPath, c.options(disk))
	if err != nil {
		return fmt.Errorf("second open: %w", err)
	}
	p, err := printOf(s)
	if err == nil && p != model.print() {
		err = fmt.Errorf("second open: %d pairs, want %d", p.pairs, model.print().pairs)
	}
	return errors.Join(err, s.Close())
}

func closeAll(s *Store) error {
	_ = s.Close() // the first error is what counts
	return nil
}

// stateOf finds the number of batches that the store holds, and checks the file.
func (c *scenario) stateOf(s *Store, ack, issue int) (batches int, err error) {
	p, err := printOf(s)
	if err != nil {
		return 0, fmt.Errorf("read after recovery: %w", err)
	}
	batches = -1
	for n := ack; n <= issue; n++ {
		if c.prints[n] == p {
			batches = n
		}
	}
	if batches < 0 {
		return 0, fmt.Errorf("%d pairs after recovery, want those of %d batches (%d) or %d (%d); %+v",
			p.pairs, ack, c.prints[ack].pairs, issue, c.prints[issue].pairs, s.Recovery())
	}
	report, err := s.Check(context.Background())
	if err != nil {
		return 0, fmt.Errorf("%w; all: %v", err, report.Defects)
	}
	return batches, nil
}
