package cidstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
)

// legacySamples have files in package hdf5, and what they hold in package legacy; those
// of format 1 are golden files.
var legacySamples = []string{
	"layout-attr-latest", "layout-attr-earliest", "layout-dataset", "layout-sharded", "upstream-100keys", "upstream-killed", "upstream-256bit",
	"format1/closed", "format1/killed",
}

func legacySample(t testing.TB, name string) []byte {
	t.Helper()
	if name, isGolden := strings.CutPrefix(name, "format1/"); isGolden {
		return goldenFile(t, 1, name+".h5")
	}
	return mustGet(os.ReadFile(filepath.Join("hdf5", "testdata", name+".h5")))(t)
}

func legacyLog(t testing.TB) []byte {
	t.Helper()
	return mustGet(os.ReadFile(filepath.Join("legacy", "testdata", "upstream-256bit.wal")))(t)
}

// digestOf is the first half of the SHA-256 of a name.
func digestOf(name string) E {
	sum := sha256.Sum256([]byte(name))
	return E{High: binary.BigEndian.Uint64(sum[:]), Low: binary.BigEndian.Uint64(sum[8:])}
}

// legacyPairs are the pairs that a sample must give.
func legacyPairs(t testing.TB, name string) contents {
	t.Helper()
	if name, isGolden := strings.CutPrefix(name, "format1/"); isGolden {
		return goldenPairs(t, 1, name)
	}
	text := mustGet(os.ReadFile(filepath.Join("legacy", "testdata", name+".expected.tsv")))(t)
	pairs := contents{}
	for line := range strings.Lines(string(text)) {
		keyName, valueName, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		key, value := digestOf(keyName), digestOf(valueName)
		if name != "upstream-256bit" {
			key, value = FromString(keyName), FromUint64(mustGet(strconv.ParseUint(valueName, 10, 64))(t))
		}
		pairs.add(key, value)
	}
	return pairs
}

// oldPath is that of the legacy file on file systems in memory.
const oldPath = "db/old.h5"

// oldDisk is a disk with a legacy file.
func oldDisk(t testing.TB, content []byte) *crashfs.FS {
	t.Helper()
	disk := crashfs.New(crashfs.Options{})
	putFile(t, disk, oldPath, content)
	return disk
}

// bytesAt are the bytes of a file.
func bytesAt(disk vfs.FS, path string) ([]byte, error) {
	f, err := disk.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Info()
	content := make([]byte, info.Size)
	if err == nil && info.Size > 0 {
		_, err = f.ReadAt(content, 0)
	}
	return content, errors.Join(err, f.Close())
}

// holdsPairs expects a good store with these pairs.
func holdsPairs(disk vfs.FS, path string, want print) error {
	s, err := Open(path, readOnly(smallOptions(disk)))
	if err != nil {
		return err
	}
	_, err = s.Check(context.Background())
	return errors.Join(err, has(s, want), s.Close())
}

// has expects a store to have these pairs.
func has(s *Store, want print) error {
	got, err := printOf(s)
	if err == nil && got != want {
		err = fmt.Errorf("%d pairs, want %d, or others", got.pairs, want.pairs)
	}
	return err
}

// stays expects a file to have these bytes.
func stays(t *testing.T, disk vfs.FS, path string, want []byte, when ...any) {
	t.Helper()
	if now, err := bytesAt(disk, path); err != nil || !bytes.Equal(now, want) {
		t.Fatalf("%s was changed: %v, %v", path, when, err)
	}
}

// absent expects no file under a path.
func absent(t *testing.T, disk vfs.FS, path string, when ...any) {
	t.Helper()
	if _, err := disk.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("there is %s: %v, %v", path, when, err)
	}
}

// migrateOn migrates the old file of a disk in place.
func migrateOn(t *testing.T, disk vfs.FS) (MigrateReport, error) {
	return MigrateWith(t.Context(), oldPath, "", &MigrateOptions{Store: smallOptions(disk)})
}

// TestMigrateSamples migrates each sample in place, and to another file; a second run
// changes nothing.
func TestMigrateSamples(t *testing.T) {
	for _, name := range legacySamples {
		t.Run(name, func(t *testing.T) {
			content, want := legacySample(t, name), legacyPairs(t, name)
			disk := oldDisk(t, content)
			o := &MigrateOptions{Store: smallOptions(disk)}
			if name == "upstream-256bit" {
				putFile(t, disk, strings.TrimSuffix(oldPath, ".h5")+".wal", legacyLog(t))
				if _, err := MigrateWith(t.Context(), oldPath, "", o); !errors.Is(err, ErrWide) {
					t.Fatalf("256 bits: %v", err)
				}
				o.Truncate256 = true
			}
			const output = "db/new.h5"
			report, err := MigrateWith(t.Context(), oldPath, output, o)
			if err != nil || report.Keys != uint64(len(want)) || report.Pairs != want.print().pairs || report.UpToDate || report.Backup != "" {
				t.Fatalf("%+v, %v", report, err)
			}
			wantErr(t, holdsPairs(disk, output, want.print()), nil)
			wantErr(t, errOf(MigrateWith(t.Context(), oldPath, output, o)), fs.ErrExist, "to a file that exists")
			stays(t, disk, oldPath, content)
			report, err = MigrateWith(t.Context(), oldPath, "", o)
			if err != nil || report.Backup != oldPath+".bak" {
				t.Fatalf("%+v, %v", report, err)
			}
			mustDo(t, migrated(disk, content, want))
			before := mustGet(bytesAt(disk, oldPath))(t)
			report, err = MigrateWith(t.Context(), oldPath, "", o)
			if err != nil || !report.UpToDate || report.From != "current" || report.Pairs != 0 || report.Backup != "" {
				t.Errorf("again: %+v, %v", report, err)
			}
			stays(t, disk, oldPath, before)
		})
	}
}

// migrated expects the new store in the place of the old file, and the old one beside it.
func migrated(disk vfs.FS, content []byte, want contents) error {
	kept, err := bytesAt(disk, oldPath+backupSuffix)
	if err == nil && !bytes.Equal(kept, content) {
		err = errors.New("the backup is not the old file")
	}
	return errors.Join(err, holdsPairs(disk, oldPath, want.print()))
}

// survives expects the old file or the new store, and nothing lost. It reports which of the
// two it is.
func survives(disk vfs.FS, content []byte, want contents) (done bool, err error) {
	now, err := bytesAt(disk, oldPath)
	if err != nil {
		return false, err
	}
	if bytes.Equal(now, content) {
		kept, err := bytesAt(disk, oldPath+backupSuffix)
		if err == nil && !bytes.Equal(kept, content) {
			err = errors.New("the backup is not the old file")
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	return true, migrated(disk, content, want)
}

func TestMigrateRefuses(t *testing.T) {
	good := legacySample(t, "layout-attr-latest")
	for _, c := range []struct {
		name    string
		content []byte
		backup  []byte // what is there as a backup already
		want    error
	}{
		{"later version", legacySample(t, "layout-future-version"), nil, ErrFormatVersion},
		{"256 bits", legacySample(t, "upstream-256bit"), nil, ErrWide},
		{"another program's", legacySample(t, "netcdf4"), nil, ErrNotCIDStore},
		{"not HDF5", []byte("These are notes."), nil, ErrNotCIDStore},
		{"empty", nil, nil, ErrNotCIDStore},
		{"cut short", good[:len(good)/2], nil, ErrTruncated},
		{"backup exists", good, []byte("precious"), fs.ErrExist},
		{"backup of the same size exists", good, make([]byte, len(good)), fs.ErrExist},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			disk := oldDisk(t, c.content)
			if c.backup != nil {
				putFile(t, disk, oldPath+backupSuffix, c.backup)
			}
			_, err := migrateOn(t, disk)
			wantErr(t, err, c.want)
			t.Log(err)
			stays(t, disk, oldPath, c.content)
			kept, err := bytesAt(disk, oldPath+backupSuffix)
			if c.backup == nil && !errors.Is(err, fs.ErrNotExist) || !bytes.Equal(kept, c.backup) {
				t.Errorf("the backup: %d bytes, %v", len(kept), err)
			}
		})
	}
}

// TestMigrateGoesOn: an interrupted migration has left a backup that is the old file.
func TestMigrateGoesOn(t *testing.T) {
	content := legacySample(t, "layout-attr-latest")
	disk := oldDisk(t, content)
	putFile(t, disk, oldPath+backupSuffix, content)
	mustDo(t, errOf(migrateOn(t, disk)), migrated(disk, content, legacyPairs(t, "layout-attr-latest")))
}

// damagedPairs are what is left in the damaged sample.
func damagedPairs() contents {
	return contents{
		FromString("good"): {E{Low: 11}: true}, FromString("bit1"): {E{Low: 21}: true, E{Low: 22}: true},
		FromString("dup"): {E{Low: 41}: true, E{Low: 42}: true}, FromString("badmask"): {E{Low: 51}: true},
	}
}

// TestMigrateTellsDefects: a damaged file is taken over as far as it can be read.
func TestMigrateTellsDefects(t *testing.T) {
	disk := oldDisk(t, legacySample(t, "layout-damaged"))
	report, err := migrateOn(t, disk)
	if err != nil || report.Keys != 4 || report.Pairs != 6 || report.DefectCount != 7 || len(report.Defects) != 7 || report.From != "attribute" {
		t.Fatalf("%+v, %v", report, err)
	}
	mustDo(t, holdsPairs(disk, oldPath, damagedPairs().print()))
}

// TestOpenNamesMigrate: Open of a legacy file says what to do, and the file stays.
func TestOpenNamesMigrate(t *testing.T) {
	for _, name := range append([]string{"upstream-empty", "layout-damaged"}, legacySamples...) {
		for _, readOnly := range []bool{false, true} {
			content := legacySample(t, name)
			disk := oldDisk(t, content)
			o := smallOptions(disk)
			o.ReadOnly = readOnly
			_, err := Open(oldPath, o)
			if !errors.Is(err, ErrLegacy) || !errors.Is(err, ErrNotCIDStore) || !errors.Is(err, ErrFormatVersion) || !strings.Contains(err.Error(), "cidstore migrate") {
				t.Errorf("%s: %v", name, err)
			}
			stays(t, disk, oldPath, content, name)
		}
	}
	disk := oldDisk(t, legacySample(t, "layout-future-version"))
	if _, err := Open(oldPath, smallOptions(disk)); !errors.Is(err, ErrFormatVersion) || errors.Is(err, ErrLegacy) {
		t.Errorf("a later version: %v", err)
	}
}

// TestMigrateWaitsForNobody: a file that another process has open for writing is not migrated.
func TestMigrateWaitsForNobody(t *testing.T) {
	disk := oldDisk(t, legacySample(t, "layout-attr-latest"))
	writer := mustGet(disk.OpenFile(oldPath, os.O_RDWR, 0))(t)
	defer writer.Close()
	for _, lock := range []vfs.Lock{{Whole: true, Exclusive: true}, {Whole: true}} {
		mustDo(t, writer.TryLock(lock))
		wantErr(t, errOf(migrateOn(t, disk)), ErrLocked, lock)
	}
	mustDo(t, errOf(MigrateWith(t.Context(), oldPath, "db/new.h5", &MigrateOptions{Store: smallOptions(disk)}))) // beside a reader
}

func TestMigrateIsCancelled(t *testing.T) {
	content := legacySample(t, "layout-attr-latest")
	disk := oldDisk(t, content)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, errOf(MigrateWith(ctx, oldPath, "", &MigrateOptions{Store: smallOptions(disk)})), context.Canceled)
	wantIs(t, false)(survives(disk, content, nil))
}

// TestMigrateInPlaceOnly: where no file can take the place of the old one that stays,
// and no backup is left.
func TestMigrateInPlaceOnly(t *testing.T) {
	content := legacySample(t, "layout-attr-latest")
	for _, place := range placements {
		disk := oldDisk(t, content)
		_, err := MigrateWith(t.Context(), oldPath, "", &MigrateOptions{Store: smallOptions(pinned(disk, place.rule))})
		if err == nil {
			t.Errorf("%s: no error", place.name)
		}
		if now, err := bytesAt(disk, oldPath); err != nil || !bytes.Equal(now, content) {
			t.Errorf("%s: the file was changed, %v", place.name, err)
		}
		absent(t, disk, oldPath+backupSuffix, place.name)
	}
}

// migrations are what is killed: a damaged file of the Python package, and one of
// format 1 with a log to be replayed.
var migrations = []struct {
	name string
	file func(t testing.TB) ([]byte, contents)
}{
	{"layout-damaged", func(t testing.TB) ([]byte, contents) { return legacySample(t, "layout-damaged"), damagedPairs() }},
	{"format1-killed", func(t testing.TB) ([]byte, contents) {
		content := goldenFile(t, 1, "killed.h5")
		end := binary.LittleEndian.Uint64(content[4096+48:]) // what follows is not in use
		return content[:end], goldenPairs(t, 1, "killed")
	}},
}

// eachMigration runs a test of each of the migrations.
func eachMigration(t *testing.T, test func(t *testing.T, content []byte, want contents)) {
	for _, m := range migrations {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			content, want := m.file(t)
			test(t, content, want)
		})
	}
}

// TestMigrateFaults lets every call to the file system fail in turn, once or from then
// on: there is the old file or the new store, and a second run has the new store.
func TestMigrateFaults(t *testing.T) { eachMigration(t, migrateFaults) }

func migrateFaults(t *testing.T, content []byte, want contents) {
	calls := func() int {
		faulty := errfs.New(oldDisk(t, content))
		fault := faulty.Add(errfs.Rule{})
		mustDo(t, errOf(migrateOn(t, faulty)))
		return fault.Matched()
	}()
	step := campaign(max(1, calls/80*invariants.Sparse), 1)
	failed, finished := 0, 0
	for nth := 1; nth <= calls; nth += step {
		disk := oldDisk(t, content)
		faulty := errfs.New(disk)
		faulty.Add(errfs.Rule{Nth: nth, Forever: nth/step%2 == 1, Partial: 700})
		_, err := migrateOn(t, faulty)
		done, lost := survives(disk, content, want)
		if lost != nil || err == nil && !done {
			t.Fatalf("call %d failed, %v: done %t, %v", nth, err, done, lost)
		}
		if err != nil {
			failed++
		}
		if done {
			finished++
		}
		mustAt(t, errOf(migrateOn(t, disk)), "call", nth, "failed, then none")
		mustAt(t, migrated(disk, content, want), "call", nth, "failed, then none")
		disk.Release()
	}
	t.Logf("%d calls, every %d. failed: %d errors, %d new stores", calls, step, failed, finished)
	if failed == 0 || finished == 0 {
		t.Error("all were the same")
	}
}

// TestMigrateKilled cuts the power at every call of a migration in place: there is the
// old file or the new store, and nothing is lost; a second run has the new store.
func TestMigrateKilled(t *testing.T) { eachMigration(t, migrateKilled) }

func migrateKilled(t *testing.T, content []byte, want contents) {
	disk := oldDisk(t, content)
	trace := disk.Record()
	mustDo(t, errOf(migrateOn(t, disk)))
	disk.Mark("done")
	trace.Stop()
	images, stores := 0, 0
	for image := range trace.Enumerate(crashfs.Plan{Seed: crashSeed(t), PerCut: perCut()}).Images() {
		images++
		left := image.FS()
		done, err := survives(left, content, want)
		if err != nil || !done && len(image.Marks) > 0 {
			t.Fatalf("%v: done %t, %v", image, done, err)
		}
		if done {
			stores++
		}
		if done || images%20 == 0 {
			mustAt(t, errOf(migrateOn(t, left)), image, "and again")
			mustAt(t, migrated(left, content, want), image, "and again")
		}
	}
	t.Logf("%d images, the new store is in %d", images, stores)
	if stores == 0 || stores == images {
		t.Error("all were the same")
	}
}

// TestMigrateHostile migrates samples with wrong bytes: a file that is refused stays as it
// was, and whatever is made is a good store.
func TestMigrateHostile(t *testing.T) {
	for _, name := range []string{"layout-damaged", "upstream-empty", "upstream-256bit", "layout-sharded", "format1/closed"} {
		content := legacySample(t, name)
		made, refused := 0, 0
		for at := 0; at < len(content); at += 1 + len(content)/30*invariants.Sparse {
			damaged := bytes.Clone(content)
			damaged[at] ^= 0x55
			disk := oldDisk(t, damaged)
			report, err := MigrateWith(t.Context(), oldPath, "", &MigrateOptions{Store: smallOptions(disk), Truncate256: true})
			if err != nil {
				refused++
				stays(t, disk, oldPath, damaged, name, at)
				continue
			}
			made++
			s := OpenStore(t, oldPath, readOnly(smallOptions(disk)))
			_, err = s.Check(t.Context())
			if keys, pairs, lenErr := s.Len(t.Context()); err != nil || lenErr != nil || keys != report.Keys || pairs != report.Pairs {
				t.Errorf("%s: byte %d: %d keys, %d pairs, %v, %v; reported %+v", name, at, keys, pairs, err, lenErr, report)
			}
			wantErr(t, s.Close(), nil)
		}
		t.Logf("%s: %d made, %d refused", name, made, refused)
	}
}
