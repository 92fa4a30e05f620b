package cidstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
)

// Ways in which a file cannot be made under another name first.
var placements = []struct {
	name string
	rule errfs.Rule
}{
	{"mounted", errfs.Rule{Ops: errfs.Rename, Nth: 1, Forever: true, Err: syscall.EBUSY}},
	{"other file system", errfs.Rule{Ops: errfs.Rename, Nth: 1, Forever: true, Err: syscall.EXDEV}},
	{"folder not writable", errfs.Rule{Ops: errfs.Open, Path: temporarySuffix, Nth: 1, Forever: true, Err: fs.ErrPermission}},
	{"folder read-only", errfs.Rule{Ops: errfs.Open, Path: temporarySuffix, Nth: 1, Forever: true, Err: syscall.EROFS}},
}

// pinned is a disk on which the files stay in their place.
func pinned(disk vfs.FS, rule errfs.Rule) vfs.FS {
	f := errfs.New(disk)
	f.Add(rule)
	return f
}

// putFile makes the file at path, or writes it again: it has this content, and stays.
func putFile(t testing.TB, disk vfs.FS, path string, content []byte) {
	t.Helper()
	f := mustGet(disk.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600))(t)
	mustDo(t, f.Truncate(int64(len(content))), f.WriteAt(content, 0), f.Sync(), f.Close(), disk.SyncDir(filepath.Dir(path)))
}

const earlyPath = "db/early.h5"

func perCut() int {
	if shortCampaign() {
		return 6
	}
	return 60
}

// stateOfPlace says what a reader finds in the file at path: the number of batches,
// or -1 for an empty file and -2 for one that says that it is half made.
func (c *scenario) stateOfPlace(disk vfs.FS, path string) (batches int, err error) {
	if info, err := disk.Stat(path); err != nil || info.Size == 0 {
		return -1, err
	}
	s, err := Open(path, readOnly(c.options(disk)))
	if errors.Is(err, ErrHalfMade) {
		if !errors.Is(err, ErrNotCIDStore) || !strings.Contains(err.Error(), "was interrupted") {
			return 0, fmt.Errorf("of a half-made file it is said: %w", err)
		}
		return -2, nil
	}
	if err != nil {
		return 0, err
	}
	p, err := printOf(s)
	if err = errors.Join(err, s.Close()); err != nil {
		return 0, err
	}
	for n := range c.prints {
		if c.prints[n] == p {
			batches = n
		}
	}
	if c.prints[batches] != p {
		return 0, fmt.Errorf("%d pairs, which the store never had", p.pairs)
	}
	return batches, nil
}

// TestCrashCreateInPlace cuts the power at every call of the making of a store in an
// empty file that stays in its place. What is left is empty, half made and says so,
// or whole; the next Open for writing has a whole store.
func TestCrashCreateInPlace(t *testing.T) {
	seed := crashSeed(t)
	for _, place := range placements {
		t.Run(strings.ReplaceAll(place.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			c := newScenario(t, seed, nil)
			putFile(t, c.fs, crashPath, nil)
			trace := c.fs.Record()
			s := mustGet(Open(crashPath, c.options(pinned(c.fs, place.rule))))(t)
			c.fs.Mark("made")
			mustDo(t, s.Close())
			trace.Stop()
			seen := map[int]int{}
			for image := range trace.Enumerate(crashfs.Plan{Seed: seed, PerCut: perCut(), Shards: invariants.Sparse}).Images() {
				disk := pinned(image.FS(), place.rule)
				found, err := c.stateOfPlace(disk, crashPath)
				if err == nil && found < 0 && len(image.Marks) > 0 {
					err = errors.New("the store that was made is gone")
				}
				if err == nil {
					err = c.recovered(disk, 0, 0, true)
				}
				mustAt(t, err, image, "found", found)
				seen[found]++
			}
			t.Logf("%d calls; empty %d, half made %d, whole %d", trace.Len(), seen[-1], seen[-2], seen[0])
			if invariants.Sparse == 1 && (seen[-1] == 0 || seen[-2] == 0 || seen[0] == 0) {
				t.Error("some of the states were never left")
			}
		})
	}
}

// TestCrashRestoreInPlace cuts the power at every call of a restore to a file that
// stays in its place. What is left is what was there, or half made and says so, or
// the backup; the restore run again has the backup.
func TestCrashRestoreInPlace(t *testing.T) {
	seed := crashSeed(t)
	for i, place := range placements {
		for j, target := range []string{"longer", "shorter", "empty", "half made", "half created"} {
			if (i*5+j)%invariants.Sparse != 0 {
				continue
			}
			t.Run(strings.ReplaceAll(place.name+" "+target, " ", "-"), func(t *testing.T) {
				t.Parallel()
				c := newScenario(t, seed, noQuarantine)
				had := c.prepareRestore(target, place.rule)
				trace := c.fs.Record()
				mustDo(t, RestoreWith(context.Background(), backupPath, crashPath, c.options(pinned(c.fs, place.rule))))
				c.fs.Mark(restoreDone)
				trace.Stop()
				seen, nested, every := map[int]int{}, 0, 1
				if shortCampaign() || had == -2 { // nearly all of them are half made
					every = 4
				}
				for image := range trace.Enumerate(crashfs.Plan{Seed: seed, PerCut: perCut(), Shards: invariants.Sparse}).Images() {
					found, err := c.restoredInPlace(image, place.rule, had)
					if err == nil && found == -2 && seen[found]%every == 0 {
						var n int
						n, err = c.restoreInterruptedAgain(image, place.rule, had)
						nested += n
					}
					mustAt(t, err, image, "found", found)
					seen[found]++
				}
				t.Logf("%d calls; batches (-1 empty, -2 half made): %v; %d in a restore after a restore", trace.Len(), seen, nested)
				if invariants.Sparse == 1 && (seen[had] == 0 || seen[-2] == 0 || seen[batchesCopied] == 0) {
					t.Error("some of the states were never left")
				}
			})
		}
	}
}

// prepareRestore makes a backup of batchesCopied batches and a target, and returns
// what stateOfPlace finds in the target.
func (c *scenario) prepareRestore(target string, rule errfs.Rule) (had int) {
	c.t.Helper()
	c.open()
	for range 40 {
		if len(c.batches) == 3 {
			c.backUp(earlyPath)
		}
		if len(c.batches) == batchesCopied {
			c.backUp(backupPath)
		}
		ops := c.randomOps()
		if n := uint64(len(c.batches)); n > 3 && n < 10 { // so that the early copy is shorter by much
			for k := range uint64(150) {
				ops = append(ops, ins(n*1000+k, k))
			}
		}
		c.apply(ops...)
	}
	c.close()
	had = len(c.batches)
	switch target {
	case "shorter":
		mustDo(c.t, c.fs.Rename(earlyPath, crashPath))
		return 3
	case "empty":
		c.remove()
		putFile(c.t, c.fs, crashPath, nil)
		return -1
	case "half made", "half created":
		disk := errfs.New(pinned(c.fs, rule))
		disk.Add(errfs.Rule{Ops: errfs.Sync, Path: crashPath, Nth: 1, Forever: true})
		var err error
		if target == "half made" {
			err = RestoreWith(context.Background(), backupPath, crashPath, c.options(disk))
		} else {
			c.remove()
			putFile(c.t, c.fs, crashPath, nil)
			disk.Clear()
			disk.Add(errfs.Rule{Ops: errfs.Datasync | errfs.Sync, Path: crashPath, Nth: 2, Forever: true})
			_, err = Open(crashPath, c.options(disk))
		}
		if !errors.Is(err, errfs.ErrIO) {
			c.t.Fatalf("to be interrupted: %v", err)
		}
		return -2
	}
	return had
}

func (c *scenario) backUp(path string) {
	c.t.Helper()
	mustDo(c.t, c.store.Backup(context.Background(), path))
}

func (c *scenario) remove() {
	c.t.Helper()
	mustDo(c.t, c.fs.Remove(crashPath))
}

// judgedImage is a disk of a restore, done or not.
type judgedImage struct {
	hash uint64
	done bool
}

// restoredInPlace holds an image of a restore against what may be left, then runs
// the restore again, once for equal disks.
func (c *scenario) restoredInPlace(image *crashfs.Image, rule errfs.Rule, had int) (found int, err error) {
	key := judgedImage{image.Hash, len(image.Marks) > 0}
	if found, ok := c.judged[key]; ok {
		return found, nil
	}
	found, err = c.stateOfPlace(pinned(image.FS(), rule), crashPath)
	switch {
	case err != nil:
		return found, err
	case key.done && found != batchesCopied:
		return found, errors.New("the restore that was done is gone")
	case found != had && found != -2 && found != batchesCopied:
		return found, errors.New("that was never there")
	}
	if found >= 0 { // what is whole can be written
		if err := c.recovered(pinned(image.FS(), rule), found, found, true); err != nil {
			return found, err
		}
	}
	disk := image.FS()
	if err := RestoreWith(context.Background(), backupPath, crashPath, c.options(pinned(disk, rule))); err != nil {
		return found, fmt.Errorf("again: %w", err)
	}
	if err = errors.Join(c.holds(disk, crashPath, batchesCopied), c.holds(disk, backupPath, batchesCopied)); err == nil {
		c.judged[key] = found
	}
	return found, err
}

// restoreInterruptedAgain cuts the power in the restore that follows an interrupted one:
// the file says that it is half made until it is the backup, or is as it was if the
// first one had not begun to write over it.
func (c *scenario) restoreInterruptedAgain(first *crashfs.Image, rule errfs.Rule, had int) (images int, err error) {
	disk := first.FS().Copy()
	defer disk.Release()
	trace := disk.Record()
	if err := RestoreWith(context.Background(), backupPath, crashPath, c.options(pinned(disk, rule))); err != nil {
		return 0, err
	}
	disk.Mark(restoreDone)
	trace.Stop()
	for image := range trace.Enumerate(crashfs.Plan{Seed: seedOf(first), PerCut: 3, Shards: invariants.Sparse}).Images() {
		images++
		if _, err := c.restoredInPlace(image, rule, had); err != nil {
			return images, fmt.Errorf("crash in the second restore at %v: %w", image, err)
		}
	}
	return images, nil
}

// TestFullDiskInPlace: where the disk is too small for the backup a store that is
// there stays; what is written into an empty file is half made, and is completed once
// there is room.
func TestFullDiskInPlace(t *testing.T) {
	for _, place := range placements {
		for _, target := range []string{"shorter", "empty", "create"} {
			t.Run(strings.ReplaceAll(place.name+" "+target, " ", "-"), func(t *testing.T) {
				Unchecked(t, crashPath, "the test looks at each state of it")
				c := newScenario(t, 1, noQuarantine)
				had, want := -1, batchesCopied
				run := func() error {
					return RestoreWith(context.Background(), backupPath, crashPath, c.options(pinned(c.fs, place.rule)))
				}
				if target == "create" {
					want = 0
					putFile(t, c.fs, crashPath, nil)
					run = func() error {
						s, err := Open(crashPath, c.options(pinned(c.fs, place.rule)))
						if err == nil {
							err = s.Close()
						}
						return err
					}
				} else {
					had = c.prepareRestore(target, place.rule)
				}
				fulls := 0
				for room := int64(4096); ; room += 4096 * invariants.Sparse { // a capacity of 0 is none
					disk := c.fs.Copy()
					c.fs, disk = disk, c.fs
					c.fs.SetCapacity(usedBy(t, c.fs, crashPath, backupPath, earlyPath) + room)
					err := run()
					c.fs.SetCapacity(0)
					if err != nil {
						fulls++
						if !errors.Is(err, ErrNoSpace) {
							t.Fatalf("room for %d bytes: %v", room, err)
						}
						if found, err := c.stateOfPlace(c.fs, crashPath); err != nil || found != had && (found != -2 || had >= 0) {
							t.Fatalf("room for %d bytes: found %d, %v, want %d", room, found, err, had)
						}
						mustAt(t, run(), "room for", room, "bytes, then for all")
					}
					wantIs(t, want, "at last, with room for", room)(c.stateOfPlace(c.fs, crashPath))
					c.fs.Release()
					c.fs = disk
					if err == nil {
						break
					}
				}
				if fulls*invariants.Sparse < 5 {
					t.Errorf("the disk was full %d times", fulls)
				}
			})
		}
	}
}

// usedBy is the space that files take, those that are there.
func usedBy(t *testing.T, disk *crashfs.FS, paths ...string) (bytes int64) {
	t.Helper()
	for _, path := range paths {
		info, err := disk.Stat(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		bytes += info.Allocated
	}
	return bytes
}

// TestFaultInPlace lets every call that changes or syncs anything fail in turn, once,
// while a store is restored in place: what is left says what it is, and the same
// restore completes it.
func TestFaultInPlace(t *testing.T) {
	for _, place := range placements {
		for _, target := range []string{"longer", "empty"} {
			t.Run(strings.ReplaceAll(place.name+" "+target, " ", "-"), func(t *testing.T) {
				Unchecked(t, crashPath, "the test looks at each state of it")
				c := newScenario(t, 1, noQuarantine)
				had := c.prepareRestore(target, place.rule)
				for nth := 1; ; nth += invariants.Sparse {
					disk := c.fs.Copy()
					faulty := errfs.New(pinned(disk, place.rule))
					fault := faulty.Add(errfs.Rule{Ops: errfs.Changes | errfs.Syncs, Path: crashPath, Nth: nth, Partial: 700})
					err := RestoreWith(context.Background(), backupPath, crashPath, c.options(faulty))
					if fault.Failed() == 0 {
						if err != nil || nth < 8 {
							t.Fatalf("nothing failed after %d calls: %v", nth-1, err)
						}
						break
					}
					if !errors.Is(err, errfs.ErrIO) {
						t.Fatalf("call %d failed: %v", nth, err)
					}
					found, err := c.stateOfPlace(pinned(disk, place.rule), crashPath)
					if err != nil || found != had && found != -2 && found != batchesCopied {
						t.Fatalf("call %d failed: found %d, %v", nth, found, err)
					}
					mustAt(t, RestoreWith(context.Background(), backupPath, crashPath, c.options(pinned(disk, place.rule))), "call", nth, "failed, then none")
					mustAt(t, c.holds(disk, crashPath, batchesCopied), "call", nth, "failed, then none")
					disk.Release()
				}
			})
		}
	}
}

// TestManyMakeOneStore: of many that open a path at the same time, each who has time gets the
// store in turn, and the others learn that it is locked: where there is no file, and where
// there is an empty one that stays in its place.
func TestManyMakeOneStore(t *testing.T) {
	systems := []vfs.FS{vfs.OS()}
	for _, place := range placements {
		systems = append(systems, pinned(vfs.OS(), place.rule))
	}
	for i, system := range systems {
		rounds := 5
		if i == 0 && !testing.Short() {
			rounds = 40
		}
		for range rounds {
			dir := t.TempDir()
			path := filepath.Join(dir, "s.h5")
			if i > 0 {
				putFile(t, vfs.OS(), path, nil)
			}
			var group sync.WaitGroup
			start := make(chan struct{})
			for g := range uint64(6) {
				group.Go(func() {
					<-start
					s, err := Open(path, &Options{WALBytes: 64 << 10, LockTimeout: time.Duration(g%2) * time.Minute, FS: system})
					if err == nil {
						err = errors.Join(s.Insert(FromUint64(g), E{}), s.Close())
					}
					if err != nil && (g%2 == 1 || !errors.Is(err, ErrLocked)) {
						t.Errorf("opener %d: %v", g, err)
					}
				})
			}
			close(start)
			group.Wait()
			if names := mustGet(os.ReadDir(dir))(t); len(names) != 1 {
				t.Fatalf("%v are left", names)
			}
			s := OpenStore(t, path, nil)
			for g := uint64(1); g < 6; g += 2 { // these had time to wait
				wantIs(t, true, "what was written by opener", g)(s.HasKey(FromUint64(g)))
			}
			mustDo(t, s.Close())
		}
	}
}
