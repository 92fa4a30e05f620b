package cidstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/vfs"
)

// backUpSeries makes a full backup and then, after each of the works, an increment. It
// returns the paths, and what the store held at each.
func (c *scenario) backUpSeries(works ...func()) (paths []string, held []print) {
	c.t.Helper()
	c.backUp(backupPath)
	paths, held = []string{backupPath}, []print{c.model.print()}
	for i, work := range works {
		work()
		c.do(func() error {
			return c.store.BackupWith(c.t.Context(), incrementPath(i), &BackupOptions{Since: slices.Clone(paths)})
		})
		paths, held = append(paths, incrementPath(i)), append(held, c.model.print())
	}
	return paths, held
}

// some applies a few batches.
func (c *scenario) some() {
	c.t.Helper()
	for range 4 {
		c.apply(c.randomOps()...)
	}
}

// series makes a store with some batches, a full backup and n increments, and closes it.
func (c *scenario) series(n int) []string {
	c.t.Helper()
	paths, _ := c.seriesOf(slices.Repeat([]func(){c.some}, n)...)
	return paths
}

func (c *scenario) seriesOf(works ...func()) (paths []string, held []print) {
	c.t.Helper()
	c.open()
	c.some()
	paths, held = c.backUpSeries(works...)
	c.close()
	return paths, held
}

const restoredPath = "db/restored.h5"

// restores restores a series to a new file, which must be a good store with these pairs.
func (c *scenario) restores(disk vfs.FS, paths []string, want print) error {
	o := c.options(disk)
	ctx := c.t.Context()
	if err := VerifyBackup(ctx, paths, o, nil); err != nil {
		return err
	}
	if err := RestoreSeries(ctx, paths, restoredPath, o, nil); err != nil {
		return err
	}
	return errors.Join(holdsPairs(disk, restoredPath, want), disk.Remove(restoredPath))
}

// TestIncrements: a full backup with increments is what a full backup at the time of
// the last of them would be, whatever the store did in between.
func TestIncrements(t *testing.T) {
	seeds := campaign(uint64(6), 120)
	tunes := []func(*Options){noQuarantine, squeezed, buckets5, smallForms, growingRing, volatile}
	for seed := range seeds {
		c := newScenario(t, seed, tunes[seed%uint64(len(tunes))])
		c.open()
		var held *Snapshot
		work := func() {
			c.some()
			switch n := c.random.IntN(6); {
			case n == 0:
				c.do(func() error { return c.store.Maintain(t.Context()) })
			case held != nil: // the rest is for those who are alone with the store
				c.do(held.Close)
				held = nil
			case n == 1:
				c.do(func() error { return c.store.Shrink(t.Context()) })
			case n == 2:
				c.close()
				c.open()
			case n == 3 && seed%6 != 5: // an Async store would lose what it accepted
				c.kill()
				c.open()
			default:
				held = mustGet(c.store.Snapshot())(t)
			}
			for range c.random.IntN(3) {
				c.apply(c.randomOps()...)
			}
		}
		work()
		paths, held2 := c.backUpSeries(work, work, func() {}, work, work)
		for i := range paths {
			mustAt(t, c.restores(c.fs, paths[:i+1], held2[i]), "seed", seed, paths[:i+1])
		}
		if held != nil {
			c.do(held.Close)
		}
		c.close()
	}
}

// TestIncrementIsShort: an increment has little more than what was changed, even if the
// store was full of gaps when the backup was made.
func TestIncrementIsShort(t *testing.T) {
	for name, rounds := range map[string]int{"new": 1, "with gaps": 6} {
		path := t.TempDir() + "/s.h5"
		s := OpenStore(t, path, &Options{GCInterval: -1, Durability: Async})
		for range rounds {
			for k := uint64(0); k < 20_000; k += 2000 {
				mustDo(t, s.Apply(deletesOf(k, k+2000, 0)), s.Apply(insertsOf(k, k+2000, 1)))
			}
			mustDo(t, s.Checkpoint(t.Context()))
		}
		backup, increment := path+".full", path+".increment"
		mustDo(t, s.Backup(t.Context(), backup), s.Insert(FromUint64(7), FromUint64(1<<40)),
			s.BackupWith(t.Context(), increment, &BackupOptions{Since: []string{backup}}), s.Close())
		before, _ := os.Stat(backup)
		after, _ := os.Stat(increment)
		t.Logf("%s: %d bytes, increment %d", name, before.Size(), after.Size())
		if after.Size() > 128<<10 || before.Size() < 1<<20 {
			t.Errorf("%s: an increment of %d bytes since a backup of %d, want at most 128 KiB", name, after.Size(), before.Size())
		}
	}
}

// refusesSeries wants RestoreSeries and VerifyBackup to fail with one of the errors, and the
// target to stay as it is.
func (c *scenario) refusesSeries(disk *crashfs.FS, paths []string, want ...error) {
	c.t.Helper()
	before := contentOf(c.t, disk, crashPath)
	for name, err := range map[string]error{
		"RestoreSeries": RestoreSeries(c.t.Context(), paths, crashPath, c.options(disk), nil),
		"VerifyBackup":  VerifyBackup(c.t.Context(), paths, c.options(disk), nil),
	} {
		if !slices.ContainsFunc(want, func(e error) bool { return errors.Is(err, e) }) {
			c.t.Fatalf("%s of %v: %v, want %v", name, paths, err, want)
		}
	}
	stays(c.t, disk, crashPath, before, paths)
	absent(c.t, disk, temporaryName(crashPath), paths)
}

// contentOf is all of a file.
func contentOf(t *testing.T, disk vfs.FS, path string) []byte {
	t.Helper()
	return mustGet(bytesAt(disk, path))(t)
}

// TestSeriesThatDoesNotFit: backups that do not follow each other are refused.
func TestSeriesThatDoesNotFit(t *testing.T) {
	c := newScenario(t, 1, noQuarantine)
	paths := c.series(3)
	full, one, two, three := paths[0], paths[1], paths[2], paths[3]
	other := newScenario(t, 2, func(o *Options) { o.Rand = nil })
	other.fs = c.fs
	s := OpenStore(t, "db/other.h5", other.options(c.fs))
	mustDo(t, s.Insert(FromUint64(1), FromUint64(2)), s.Backup(t.Context(), "db/otherfull"),
		s.BackupWith(t.Context(), "db/otherincrement", &BackupOptions{Since: []string{"db/otherfull"}}))
	for _, series := range [][]string{
		{full, two}, {full, one, three}, {full, two, one}, {full, one, one}, {one}, {one, two}, {full, full},
		{full, crashPath}, {full, "db/otherincrement"}, {"db/otherfull", one}, {full, one, "db/otherincrement"},
	} {
		c.refusesSeries(c.fs, series, ErrBackupSeries)
	}
	c.refusesSeries(c.fs, []string{full, "db/none"}, fs.ErrNotExist)
	for name, since := range map[string][]string{
		"another store": {full}, "an increment alone": {"db/otherincrement"}, "a gap": {full, two},
	} {
		wantErr(t, s.BackupWith(t.Context(), "db/x", &BackupOptions{Since: since}), ErrBackupSeries, "since", name)
		absent(t, c.fs, "db/x", name)
	}
	if err := RestoreSeries(t.Context(), nil, crashPath, c.options(c.fs), nil); err == nil {
		t.Error("nothing was restored")
	}
	mustDo(t, s.Close())
	// A backup that somebody has written to is another one.
	mustDo(t, OpenStore(t, full, c.options(c.fs)).Close())
	c.refusesSeries(c.fs, paths, ErrBackupSeries)
	if err := VerifyBackup(t.Context(), paths, c.options(c.fs), nil); !strings.Contains(err.Error(), "opened for writing since") {
		t.Errorf("a backup that was opened for writing: %v", err)
	}
}

// TestDamagedIncrement flips each byte of an increment in turn, and cuts it everywhere.
func TestDamagedIncrement(t *testing.T) {
	c := newScenario(t, 3, noQuarantine)
	paths, held := c.seriesOf(c.some, func() {})
	path := paths[2] // of nothing but the lives of the copies
	whole := contentOf(t, c.fs, path)
	f := mustGet(c.fs.OpenFile(path, os.O_RDWR, 0))(t)
	step := campaign(3, 1)
	target := contentOf(t, c.fs, crashPath)
	for at := 0; at < len(whole); at += step {
		mustDo(t, f.WriteAt([]byte{whole[at] ^ 1<<(at%8)}, int64(at)))
		err := RestoreSeries(t.Context(), paths, crashPath, c.options(c.fs), nil)
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrBackupSeries) {
			t.Fatalf("byte %d flipped: %v", at, err)
		}
		mustDo(t, f.WriteAt(whole[at:at+1], int64(at)))
	}
	for size := len(whole) - 1; size >= 0; size -= 7 * step {
		mustDo(t, f.Truncate(int64(size)))
		err := RestoreSeries(t.Context(), paths, crashPath, c.options(c.fs), nil)
		if !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrBackupSeries) {
			t.Fatalf("cut to %d bytes: %v", size, err)
		}
	}
	stays(t, c.fs, crashPath, target)
	mustDo(t, f.WriteAt(whole, 0), f.Close(), c.restores(c.fs, paths, held[2]))
}

// TestDamagedBase: a flipped byte of the full backup is refused, or it is one that the
// increments write over; then what is restored is right.
func TestDamagedBase(t *testing.T) {
	c := newScenario(t, 4, noQuarantine)
	paths, held := c.seriesOf(c.some)
	size := len(contentOf(t, c.fs, backupPath))
	refused, healed, tries := 0, 0, campaign(60, 400)
	for i := range tries {
		disk := c.fs.Copy()
		flipOn(t, disk, backupPath, int64(i*size/tries), 0x10)
		if c.restores(disk, paths, held[1]) == nil {
			healed++
			continue
		}
		c.refusesSeries(disk, paths, ErrCorrupt, ErrBackupSeries)
		refused++
	}
	t.Logf("%d refused, %d written over", refused, healed)
	if refused == 0 || healed == 0 {
		t.Errorf("%d refused, %d written over: want some of both", refused, healed)
	}
}

// TestForgedIncrement: an increment whose parts have the right checksums, but which makes
// another image, fails by the checksum of the image.
func TestForgedIncrement(t *testing.T) {
	c := newScenario(t, 5, noQuarantine)
	paths := c.series(1)
	p := contentOf(t, c.fs, paths[1])
	p[len(p)-incrementEndSize-1] ^= 1 // the last byte of the last part that has data, or of its head
	r := mustGet(newIncrementReader(bytes.NewReader(p)))(t)
	putFile(t, c.fs, paths[1], mended(p))
	if _, _, err := readParts(mended(p)); err != nil {
		t.Fatalf("the forged increment of commit %d: %v", r.header.commit, err)
	}
	c.refusesSeries(c.fs, paths, ErrCorrupt)
}

// TestFaultIncrement lets each call that changes or syncs something fail once while an
// increment is made and restored, and while a compact copy is made: the error is
// returned, nothing is left, and the same call succeeds after that.
func TestFaultIncrement(t *testing.T) {
	c := newScenario(t, 6, noQuarantine)
	paths, _ := c.seriesOf(c.some)
	c.open()
	c.some()
	c.close()
	step := campaign(9, 1)
	backUp := func(disk vfs.FS, path string, with *BackupOptions) error {
		s, err := Open(crashPath, readOnly(c.options(disk)))
		if err != nil {
			return err
		}
		return errors.Join(s.BackupWith(t.Context(), path, with), s.Close())
	}
	for name, work := range map[string]func(disk vfs.FS, path string) error{
		incrementPath(1): func(disk vfs.FS, path string) error { return backUp(disk, path, &BackupOptions{Since: paths}) },
		"db/compact.h5":  func(disk vfs.FS, path string) error { return backUp(disk, path, &BackupOptions{Compact: true}) },
		restoredPath: func(disk vfs.FS, path string) error {
			return RestoreSeries(t.Context(), paths, path, c.options(disk), nil)
		},
	} {
		for nth := 1; ; nth += step {
			disk := c.fs.Copy()
			faulty := errfs.New(disk)
			fault := faulty.Add(errfs.Rule{Ops: errfs.Changes | errfs.Syncs | errfs.Read, Nth: nth, Partial: 100})
			err := work(faulty, name)
			if fault.Failed() == 0 {
				if err != nil || nth < 4 {
					t.Fatalf("%s: nothing failed after %d calls: %v", name, nth-1, err)
				}
				break
			}
			_, statErr := disk.Stat(name)
			if err != nil && !errors.Is(err, errfs.ErrIO) || err == nil && statErr != nil {
				t.Fatalf("%s: call %d failed: %v, %v", name, nth, err, statErr)
			}
			if statErr == nil { // named before the call that failed
				continue
			}
			mustAt(t, work(disk, name), name, "call", nth, "failed, then none")
		}
	}
}

// TestFaultIncrementDiskFull: a disk without room for the increment, or for what is
// restored, gets an error that says so; the store and the target are as they were.
func TestFaultIncrementDiskFull(t *testing.T) {
	c := newScenario(t, 7, noQuarantine)
	c.open()
	c.some()
	paths, _ := c.backUpSeries(c.some)
	c.some()
	c.do(func() error { return c.store.Checkpoint(t.Context()) })
	c.fs.SetCapacity(usedBy(t, c.fs, append(paths, crashPath)...) + 8<<10)
	wantErr(t, c.store.BackupWith(t.Context(), incrementPath(1), &BackupOptions{Since: paths}), ErrNoSpace, "BackupWith")
	wantErr(t, c.same(), nil)
	c.close()
	before := contentOf(t, c.fs, crashPath)
	c.fs.SetCapacity(usedBy(t, c.fs, append(paths, crashPath)...) + 8<<10)
	wantErr(t, RestoreSeries(t.Context(), paths, crashPath, c.options(c.fs), nil), ErrNoSpace, "RestoreSeries")
	stays(t, c.fs, crashPath, before)
	for _, path := range []string{incrementPath(1), temporaryName(incrementPath(1)), temporaryName(crashPath)} {
		absent(t, c.fs, path)
	}
}

// TestRestoreSeriesInPlace: where no file can get the name of the target, the store is
// written into it; damaged increments leave it alone.
func TestRestoreSeriesInPlace(t *testing.T) {
	for _, place := range placements {
		c := newScenario(t, 8, noQuarantine)
		paths := c.series(2)
		disk := pinned(c.fs, place.rule)
		c.refusesSeries(c.fs, []string{paths[0], paths[2]}, ErrBackupSeries)
		mustAt(t, RestoreSeries(t.Context(), paths, crashPath, c.options(disk), nil), place.name)
		mustAt(t, c.holds(c.fs, crashPath, len(c.batches)), place.name)
		p := contentOf(t, c.fs, paths[2])
		p[len(p)-incrementEndSize-1] ^= 1
		putFile(t, c.fs, paths[2], mended(p)) // only the checksum of the image shows it
		before := contentOf(t, c.fs, crashPath)
		wantErr(t, RestoreSeries(t.Context(), paths, crashPath, c.options(disk), nil), ErrCorrupt, place.name)
		stays(t, c.fs, crashPath, before, place.name)
	}
}

// failingWriter takes so many bytes.
type failingWriter struct{ left int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errfs.ErrIO
	}
	return len(p), nil
}

// TestBackupTo: a stream has the bytes of a backup, whether the store is written to, is only
// read, can no longer be written to, or has operations that are in no root.
func TestBackupTo(t *testing.T) {
	for name, prepare := range map[string]func(c *scenario){
		"writer": func(*scenario) {},
		"pending": func(c *scenario) { // and a root in the middle of a checkpoint, beside it
			c.kill()
			c.store = OpenStore(c.t, crashPath, readOnly(c.options(c.fs)))
		},
		"poisoned": func(c *scenario) { c.store.file.Poison(errfs.ErrIO); c.store.fail(errfs.ErrIO) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newScenario(t, 9, noQuarantine)
			c.open()
			c.some()
			c.backUp(backupPath)
			c.some()
			prepare(c)
			var full, increment bytes.Buffer
			var last, total int64
			tell := func(done, of int64) { last, total = done, of }
			mustDo(t, c.store.BackupTo(t.Context(), &full, &BackupOptions{Progress: tell}))
			if last != total || total != int64(full.Len()) {
				t.Errorf("progress ended at %d of %d, want %d", last, total, full.Len())
			}
			since := &BackupOptions{Since: []string{backupPath}, Progress: tell}
			mustDo(t, c.store.BackupTo(t.Context(), &increment, since))
			putFile(t, c.fs, "db/stream", full.Bytes())
			putFile(t, c.fs, "db/increment", increment.Bytes())
			for _, series := range [][]string{{"db/stream"}, {backupPath, "db/increment"}} {
				wantErr(t, c.restores(c.fs, series, c.model.print()), nil, series)
			}
			for _, size := range []int{0, 20000, increment.Len() - 1} {
				wantErr(t, c.store.BackupTo(t.Context(), &failingWriter{size}, since), errfs.ErrIO, fmt.Sprintf("after %d bytes", size))
			}
			wantErr(t, c.store.BackupTo(t.Context(), &failingWriter{0}, nil), errfs.ErrIO, "a full one")
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			for _, o := range []*BackupOptions{nil, since} {
				wantErr(t, c.store.BackupTo(cancelled, io.Discard, o), context.Canceled, "cancelled")
			}
			wantErr(t, RestoreSeries(cancelled, []string{backupPath, "db/increment"}, restoredPath, c.options(c.fs), nil), context.Canceled, "cancelled")
			_ = c.store.Close() // a poisoned one says so
			wantErr(t, c.store.BackupTo(t.Context(), io.Discard, since), ErrClosed, "closed")
		})
	}
}

// TestIncrementIsNoStore: whoever takes an increment for a store gets an error that says so.
func TestIncrementIsNoStore(t *testing.T) {
	c := newScenario(t, 10, noQuarantine)
	paths := c.series(1)
	wantErr(t, errOf(Open(paths[1], c.options(c.fs))), ErrNotCIDStore, "Open")
	wantSays(t, RestoreWith(t.Context(), paths[1], crashPath, c.options(c.fs)), ErrBackupSeries, "full backup comes first", "RestoreWith")
}

// TestTwoIncrementsAtOnce: of several that are made at the same path, one succeeds, and the
// others fail and say why.
func TestTwoIncrementsAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := OpenStore(t, dir+"/s.h5", &Options{Durability: Async})
	since := &BackupOptions{Since: []string{dir + "/full.h5"}}
	mustDo(t, s.Insert(FromUint64(1), FromUint64(2)), s.Backup(t.Context(), since.Since[0]))
	results := make(chan error, 4)
	for range cap(results) {
		go func() { results <- s.BackupWith(t.Context(), dir+"/increment", since) }()
	}
	made := 0
	for range cap(results) {
		switch err := <-results; {
		case err == nil:
			made++
		case !errors.Is(err, ErrLocked) && !errors.Is(err, fs.ErrExist):
			t.Error(err)
		}
	}
	if made != 1 {
		t.Errorf("%d have made it, want 1", made)
	}
	series := []string{since.Since[0], dir + "/increment"}
	wantErr(t, errors.Join(VerifyBackup(t.Context(), series, nil, nil), s.Close()), nil)
}

// TestRestoreOverIncrement: a caller who forgets to name the store does not lose the last increment.
func TestRestoreOverIncrement(t *testing.T) {
	c := newScenario(t, 11, noQuarantine)
	paths := c.series(2)
	full := contentOf(t, c.fs, paths[0])
	for n := 1; n < len(paths); n++ {
		before := contentOf(t, c.fs, paths[n])
		for name, err := range map[string]error{
			"RestoreSeries": RestoreSeries(t.Context(), paths[:n], paths[n], c.options(c.fs), nil),
			"RestoreFrom":   RestoreFrom(t.Context(), bytes.NewReader(full), paths[n], c.options(c.fs), nil),
		} {
			wantSays(t, err, ErrBackupSeries, "name the store last", name, "of", paths[:n], "to", paths[n])
		}
		stays(t, c.fs, paths[n], before)
	}
}

// TestRestoreOntoBackup: a restore onto one of its backups, by any name, is refused, and
// the increments still fit.
func TestRestoreOntoBackup(t *testing.T) {
	dir := t.TempDir()
	full, increment, link, other := dir+"/full.h5", dir+"/increment", dir+"/link", dir+"/other"
	s := OpenStore(t, dir+"/s.h5", nil)
	mustDo(t, s.Insert(FromUint64(1), FromUint64(2)), s.Backup(t.Context(), full), s.Insert(FromUint64(1), FromUint64(3)),
		s.BackupWith(t.Context(), increment, &BackupOptions{Since: []string{full}}), s.Close(),
		os.Link(full, other))
	paths := []string{full, other}
	if os.Symlink(full, link) == nil { // not everybody may, on Windows
		paths = append(paths, link)
	}
	for _, path := range paths {
		stream := mustGet(os.Open(full))(t)
		for name, err := range map[string]error{
			"Restore":       Restore(t.Context(), full, path),
			"RestoreSeries": RestoreSeries(t.Context(), []string{full, increment}, path, nil, nil),
			"RestoreFrom":   RestoreFrom(t.Context(), stream, path, nil, nil),
		} {
			wantSays(t, err, nil, "it is the backup itself; name another file", name, "to", path)
		}
		mustDo(t, stream.Close())
	}
	mustDo(t, VerifyBackup(t.Context(), []string{full, increment}, nil, nil))
}

// TestIncrementSinceTheStore: the store itself is no earlier backup: it changes, and the
// increment would be lost with it.
func TestIncrementSinceTheStore(t *testing.T) {
	c := newScenario(t, 12, noQuarantine)
	c.open()
	c.some()
	since := &BackupOptions{Since: []string{crashPath}}
	for name, err := range map[string]error{
		"BackupWith": c.store.BackupWith(t.Context(), incrementPath(0), since),
		"BackupTo":   c.store.BackupTo(t.Context(), io.Discard, since),
	} {
		wantSays(t, err, ErrBackupSeries, "store itself", name)
	}
	absent(t, c.fs, incrementPath(0))
	c.close()
}

// TestCompactBackup: a compact copy of a store in use is about as short as one can be, the
// other as long as the store's file; both have everything, and increments fit to both.
func TestCompactBackup(t *testing.T) {
	dir := t.TempDir()
	in := func(format string, args ...any) string { return filepath.Join(dir, fmt.Sprintf(format, args...)) }
	s := OpenStore(t, in("s.h5"), &Options{GCInterval: -1})
	var b Batch
	for i := range uint64(20_000) {
		b.Insert(FromUint64(i), FromUint64(i*i))
	}
	mustDo(t, s.Apply(&b), s.Checkpoint(t.Context()))
	space := mustGet(s.Space())(t)
	sizes := map[bool]int64{}
	for _, compact := range []bool{false, true} {
		full, increment, restored := in("full-%t.h5", compact), in("increment-%t", compact), in("restored-%t.h5", compact)
		mustDo(t, s.BackupWith(t.Context(), full, &BackupOptions{Compact: compact}),
			s.Insert(FromString("dog"), FromUint64(uint64(len(sizes)))),
			s.BackupWith(t.Context(), increment, &BackupOptions{Since: []string{full}}),
			RestoreSeries(t.Context(), []string{full, increment}, restored, nil, nil))
		sizes[compact] = mustGet(os.Stat(full))(t).Size()
		r := OpenStore(t, restored, &Options{ReadOnly: true})
		want := mustGet(printOf(s))(t)
		wantIs(t, want, "compact", compact)(printOf(r))
		mustDo(t, r.Close())
	}
	if most := space.Live*13/10 + 256<<10; sizes[true] > most || sizes[false] < 2*sizes[true] {
		t.Errorf("%d bytes compact, want at most %d; %d as it is", sizes[true], most, sizes[false])
	}
	t.Logf("%d bytes live, %d of the file; a copy of %d, compact %d", space.Live, space.File, sizes[false], sizes[true])
	for name, err := range map[string]error{
		"increment": s.BackupWith(t.Context(), in("x"), &BackupOptions{Compact: true, Since: []string{in("full-true.h5")}}),
		"stream":    s.BackupTo(t.Context(), io.Discard, &BackupOptions{Compact: true}),
	} {
		wantSays(t, err, nil, name+" that is compact")
	}
	cancelled, cancel := context.WithCancel(t.Context())
	o := &BackupOptions{Compact: true, Progress: func(done, total int64) {
		if done == total { // the copy is whole, and not yet compact
			cancel()
		}
	}}
	wantErr(t, s.BackupWith(cancelled, in("cancelled.h5"), o), context.Canceled, "cancelled")
	for _, path := range []string{in("cancelled.h5"), temporaryName(in("cancelled.h5"))} {
		absent(t, vfs.OS(), path)
	}
}
