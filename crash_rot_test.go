package cidstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/wal"
)

// liveLog is a store that was killed with batches in its log, and where they lie.
type liveLog struct {
	*scenario
	disk   *crashfs.FS
	frames []liveFrame
	record record
	before int // batches that the tree holds
}

// liveFrame is a frame of the log; batch: it has operations that change something.
type liveFrame struct {
	wal.Frame
	batch bool
}

func newLiveLog(t *testing.T) *liveLog {
	l := &liveLog{scenario: newScenario(t, crashSeed(t), func(o *Options) { o.WALBytes = 256 * 512 })}
	for range 3 { // lives, so that there are ended epochs
		l.open()
		for range 7 {
			l.apply(l.randomOps()...)
		}
		l.kill()
	}
	l.disk = l.fs.Copy()
	s := mustGet(l.openReader(nil))(t)
	v := s.state.Load().view
	l.record = v.record
	_, err := wal.Scan(s.logConfig(v), l.record.epochs, l.record.lastApplied, l.record.watermark, func(f wal.Frame) error {
		l.frames = append(l.frames, liveFrame{f, len(f.Ops) > 0 && changes(f.Ops[0].Code)})
		return nil
	})
	mustDo(t, err, s.Close())
	l.before = len(l.batches)
	for _, f := range l.frames {
		if f.batch {
			l.before--
		}
	}
	if l.before < 0 || len(l.batches)-l.before < 10 || l.endsAt(len(l.batches)) != nil {
		t.Fatalf("%d of %d batches are in the tree, %v", l.before, len(l.batches), l.endsAt(len(l.batches)))
	}
	if l.record.oldAddress != 0 {
		t.Fatal("there is a /wal_old: the places below are wrong")
	}
	return l
}

// kill ends the process: nothing more is written, the locks go.
func (c *scenario) kill() {
	c.store.kill()
	c.store = nil
}

func (l *liveLog) openReader(tune func(*Options)) (*Store, error) {
	o := l.options(l.disk)
	o.ReadOnly = true
	if tune != nil {
		tune(o)
	}
	return Open(crashPath, o)
}

// logPlace is where the record of a sequence stands in the file.
func logPlace(r *record, sequence wal.Seq) int64 {
	block := uint64(r.walBlock)
	each := block / wal.RecordSize
	n := uint64(sequence) % (r.walSize / block * each)
	return int64(r.walAddress + n/each*block + n%each*wal.RecordSize)
}

// flip changes one bit of a log record.
func (l *liveLog) flip(sequence wal.Seq, bit int) {
	l.t.Helper()
	flipOn(l.t, l.disk, crashPath, logPlace(&l.record, sequence)+int64(bit/8), 1<<(bit%8))
}

// TestCrashRottenLog flips bits of every record of a live log. At or below the
// highest watermark the record was durable: Open refuses and names it, and a
// salvage learns it. After it the record is the torn end of the log: what
// stands before is there.
func TestCrashRottenLog(t *testing.T) {
	t.Parallel()
	l := newLiveLog(t)
	bits := campaign(1, 16)
	random := rand.New(rand.NewPCG(uint64(len(l.frames)), 3))
	refused, torn, whole := 0, 0, l.before
	for _, f := range l.frames {
		for sequence := f.First; sequence <= f.Last; sequence++ {
			for range bits {
				bit := random.IntN(8 * wal.RecordSize)
				l.flip(sequence, bit)
				var err error
				if f.PastWatermark {
					torn++
					err = l.endsAt(whole)
				} else {
					refused++
					err = l.refused(sequence)
				}
				mustAt(t, err, "bit", bit, "of record", sequence, "in a frame of", f.First, "to", f.Last, "past the watermark", f.PastWatermark)
				l.flip(sequence, bit)
			}
		}
		if f.batch {
			whole++
		}
	}
	if whole != len(l.batches) {
		t.Errorf("the log has %d batches, want %d", whole, len(l.batches))
	}
	t.Logf("%d frames, %d flips refused, %d at the torn end", len(l.frames), refused, torn)
	if refused == 0 || torn == 0 {
		t.Fatal("not both sides of the watermark were looked at")
	}
}

// refused: neither a reader nor a writer opens the log, the record is named, and
// the file is left as it is.
func (l *liveLog) refused(sequence wal.Seq) error {
	before := contentOf(l.t, l.disk, crashPath)
	name := fmt.Sprintf("record %d", sequence)
	for _, open := range []func() (*Store, error){
		func() (*Store, error) { return l.openReader(nil) },
		func() (*Store, error) { return Open(crashPath, l.options(l.disk)) },
	} {
		s, err := open()
		if err == nil {
			return errors.Join(errors.New("opened"), s.Close())
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTampered) || !strings.Contains(err.Error(), name) {
			return fmt.Errorf("refused without %q: %w", name, err)
		}
	}
	if string(before) != string(contentOf(l.t, l.disk, crashPath)) {
		return errors.New("the file was changed")
	}
	s, err := l.openReader(func(o *Options) { o.Salvage = true })
	if err != nil {
		return fmt.Errorf("salvage: %w", err)
	}
	p, err := printOf(s)
	known := false
	for n := l.before; n < len(l.prints); n++ {
		known = known || l.prints[n] == p
	}
	if err == nil && !known || s.Recovery().Salvaged == nil {
		err = fmt.Errorf("salvage: %d pairs, those of no number of batches; damage %w", p.pairs, s.Recovery().Salvaged)
	}
	return errors.Join(err, s.Close())
}

// endsAt: the store opens and holds so many batches.
func (l *liveLog) endsAt(batches int) error {
	s, err := l.openReader(nil)
	if err != nil {
		return err
	}
	p, err := printOf(s)
	if err == nil && p != l.prints[batches] {
		err = fmt.Errorf("%d pairs, want %d, those of %d batches", p.pairs, l.prints[batches].pairs, batches)
	}
	return errors.Join(err, s.Close())
}

// TestReadOfARottenLeaf: what a read says of a set of which one leaf of three is
// damaged. What it returns with the error is no part of the set.
func TestReadOfARottenLeaf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.h5")
	key := E{High: 1, Low: 1}
	o := &Options{GCInterval: -1}
	s := mustGet(Open(path, o))(t)
	var b Batch
	for i := range uint64(3000) {
		b.Insert(key, E{Low: i})
	}
	mustDo(t, s.Apply(&b), s.Close())
	data := mustGet(os.ReadFile(path))(t)
	data[bytes.Index(data, E{Low: 1001}.AppendHDF5(E{Low: 1000}.AppendHDF5(nil)))] ^= 1
	mustDo(t, os.WriteFile(path, data, 0o600))
	s = mustGet(Open(path, o))(t)
	defer s.Close()
	v := mustGet(s.Snapshot())(t)
	defer v.Close()
	given := []E{{Low: 7}}
	reads := func(when string) {
		t.Helper()
		for name, read := range map[string]func() ([]E, error){
			"Store.AppendLookup":    func() ([]E, error) { return s.AppendLookup(given, key) },
			"Snapshot.AppendLookup": func() ([]E, error) { return v.AppendLookup(given, key) },
		} {
			if got, err := read(); !errors.Is(err, ErrCorrupt) || !slices.Equal(got, given) {
				t.Errorf("%s, %s: %d values, %v; want what was given, and ErrCorrupt", when, name, len(got), err)
			}
		}
		for name, read := range map[string]func(E) ([]E, error){"Store.Lookup": s.Lookup, "Snapshot.Lookup": v.Lookup} {
			if got, err := read(key); !errors.Is(err, ErrCorrupt) || got != nil {
				t.Errorf("%s, %s: %d values, %v; want none, and ErrCorrupt", when, name, len(got), err)
			}
		}
	}
	reads("at rest")
	mustDo(t, s.Insert(key, E{High: 9}))
	reads("with one value pending")

	var told error
	for _, err := range v.Values(key) {
		if told = err; err != nil && !errors.Is(v.Err(), ErrCorrupt) {
			t.Errorf("in the loop: Err is %v, want %v", v.Err(), err)
		}
	}
	if !errors.Is(told, ErrCorrupt) || v.Err() != told {
		t.Errorf("the loop ended with %v, Err is %v", told, v.Err())
	}
}

// TestCrashRottenSlot damages either commit slot at every acknowledged moment of
// each workload: the other one and the log lose nothing.
func TestCrashRottenSlot(t *testing.T) {
	seed := crashSeed(t)
	for _, w := range invariants.Sample(crashWorkloads) {
		t.Run(strings.ReplaceAll(w.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			c := newScenario(t, seed, w.tune)
			trace := c.fs.Record()
			w.run(c)
			trace.Stop()
			images := 0
			for image := range trace.Enumerate(crashfs.Plan{Seed: seed, Classes: []crashfs.Class{crashfs.Issued}}).Images() {
				ack, issue := window(image.Marks)
				if ack == 0 || image.Cut%invariants.Sparse != 0 {
					continue
				}
				for slot := range int64(2) {
					disk := image.FS()
					mustDo(t, rot(disk, 4096*(1+slot), 4096, uint64(image.Cut)))
					images++
					mustAt(t, c.recovered(disk, ack, issue, false), image, "slot", slot, "rotten")
				}
			}
			t.Logf("%d images", images)
			if images == 0 {
				t.Fatal("no image was looked at")
			}
		})
	}
}

// rot changes one byte in each sector of a range.
func rot(disk *crashfs.FS, offset, n int64, seed uint64) error {
	f, err := disk.OpenFile(crashPath, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(seed, 2))
	for at := offset; at < offset+n; at += 512 {
		p := make([]byte, 512)
		if _, err := f.ReadAt(p, at); err != nil {
			return err
		}
		before := bytes.Clone(p)
		p[r.IntN(512)] ^= byte(1 + r.IntN(255))
		if bytes.Equal(before, p) {
			return errors.New("nothing was changed")
		}
		if err := f.WriteAt(p, at); err != nil {
			return err
		}
	}
	return f.Sync()
}
