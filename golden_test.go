package cidstore

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
)

// Golden files are stores of every format so far, as the program of that time wrote them: see
// testdata/golden/make. Those of the present format show whether a change has changed the
// format without changing its number.

// goldenFile is a golden file without its gzip.
func goldenFile(t testing.TB, format int, name string) []byte {
	t.Helper()
	packed := mustGet(os.Open(filepath.Join("testdata", "golden", fmt.Sprintf("format%d", format), name+".gz")))(t)
	defer packed.Close()
	return mustGet(io.ReadAll(mustGet(gzip.NewReader(packed))(t)))(t)
}

// goldenPairs are the pairs that a golden file must have.
func goldenPairs(t testing.TB, format int, name string) contents {
	t.Helper()
	pairs := contents{}
	for line := range strings.Lines(string(goldenFile(t, format, name+".tsv"))) {
		keyText, valueText, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		key, err := Parse(keyText)
		value, valueErr := Parse(valueText)
		mustDo(t, err, valueErr)
		pairs.add(key, value)
	}
	return pairs
}

// goldenNames are the golden files of a format.
func goldenNames(t testing.TB, format int) (names []string) {
	t.Helper()
	paths := mustGet(filepath.Glob(filepath.Join("testdata", "golden", fmt.Sprintf("format%d", format), "*.h5.gz")))(t)
	for _, path := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".h5.gz"))
	}
	if len(names) < 3 {
		t.Fatalf("format %d has %d golden files, want 3 or more: run testdata/golden/make", format, len(names))
	}
	return names
}

// goldenOptions open a golden file; the one of that name has a secret.
func goldenOptions(disk *crashfs.FS, name string) *Options {
	o := smallOptions(disk)
	if name == "secret" {
		o.WALKey = []byte("a secret of the log")
	}
	return o
}

// TestGoldenFiles opens all files of the present format, and writes to them. Those of
// older formats are refused, untouched, and can be migrated.
func TestGoldenFiles(t *testing.T) {
	for format := 1; format <= FormatVersion; format++ {
		for _, name := range goldenNames(t, format) {
			t.Run(fmt.Sprintf("%d-%s", format, name), func(t *testing.T) {
				content, want := goldenFile(t, format, name+".h5"), goldenPairs(t, format, name)
				disk := oldDisk(t, content)
				if format == FormatVersion {
					readGolden(t, disk, name, content, want)
					writeGolden(t, disk, name, want)
				} else {
					migrateGolden(t, disk, name, content, want)
				}
			})
		}
	}
}

// readGolden reads a file of the present format without changing it.
func readGolden(t *testing.T, disk *crashfs.FS, name string, content []byte, want contents) {
	t.Helper()
	o := goldenOptions(disk, name)
	o.ReadOnly, o.Verify = true, VerifyOpen
	s := OpenStore(t, oldPath, o)
	wantErr(t, errOf(s.Check(t.Context())), nil)
	mustDo(t, has(s, want.print()))
	if pending := name == "killed" || name == "secret"; (s.Recovery().OperationsReplayed > 0) != pending {
		t.Errorf("%d operations are in the log alone, want some: %t", s.Recovery().OperationsReplayed, pending)
	}
	wantErr(t, s.Close(), nil)
	stays(t, disk, oldPath, content)
}

// writeGolden changes every key of a file of the present format, deletes most of them, and
// looks at what is left, each in a life of its own.
func writeGolden(t *testing.T, disk *crashfs.FS, name string, want contents) {
	t.Helper()
	for life := range 3 {
		s := OpenStore(t, oldPath, goldenOptions(disk, name))
		var b Batch
		for key, values := range want {
			extra := E{High: key.Low, Low: 1 << 40}
			switch {
			case life == 0:
				b.Insert(key, extra)
				values[extra] = true
			case life == 1 && (key.Low%8 != 0 || len(values) > 4): // all sets
				b.Delete(key)
				delete(want, key)
			}
			if b.Len() >= 50 {
				mustDo(t, s.Apply(&b))
				b.Reset()
			}
		}
		mustDo(t, s.Apply(&b))
		mustCheck(t, s)
		wantErr(t, errors.Join(has(s, want.print()), s.Close()), nil, "life", life)
	}
}

// migrateGolden takes a file of an older format over.
func migrateGolden(t *testing.T, disk *crashfs.FS, name string, content []byte, want contents) {
	t.Helper()
	o := goldenOptions(disk, name)
	for _, readOnly := range []bool{false, true} {
		o.ReadOnly = readOnly
		_, err := Open(oldPath, o)
		if !errors.Is(err, ErrLegacy) || !errors.Is(err, ErrFormatVersion) || !strings.Contains(err.Error(), "cidstore migrate") {
			t.Errorf("read-only %t: %v", readOnly, err)
		}
	}
	report, err := MigrateWith(t.Context(), oldPath, "db/new.h5", &MigrateOptions{Store: o})
	if err != nil || report.From != "format-1" || report.DefectCount > 0 || report.Pairs != want.print().pairs {
		t.Fatalf("%+v, %v", report, err)
	}
	stays(t, disk, oldPath, content)
	mustDo(t, has(OpenStore(t, "db/new.h5", goldenOptions(disk, name)), want.print()))
}

// TestMigrateWantsTheSecret: without its secret a log of format 1 cannot be read, and no
// store is made.
func TestMigrateWantsTheSecret(t *testing.T) {
	content := goldenFile(t, 1, "secret.h5")
	for _, secret := range []string{"", "another"} {
		disk := oldDisk(t, content)
		o := smallOptions(disk)
		if secret != "" {
			o.WALKey = []byte(secret)
		}
		wantErr(t, errOf(MigrateWith(t.Context(), oldPath, "", &MigrateOptions{Store: o})), ErrWALKey, "secret", secret)
		wantIs(t, false, "secret", secret)(survives(disk, content, nil))
	}
}

// TestOpenMendsNoOtherFormat: a torn superblock is not mended in a file that is refused
// for its format.
func TestOpenMendsNoOtherFormat(t *testing.T) {
	content := goldenFile(t, FormatVersion, "closed.h5")
	content[20]++
	for _, at := range []int{4096, 8192} {
		slot := content[at : at+4096]
		le.PutUint32(slot[192:], FormatVersion+1)
		le.PutUint32(slot[4092:], crc32.Checksum(slot[:4092], crc32.MakeTable(crc32.Castagnoli)))
	}
	disk := oldDisk(t, content)
	if _, err := Open(oldPath, smallOptions(disk)); !errors.Is(err, ErrFormatVersion) || errors.Is(err, ErrLegacy) {
		t.Error(err)
	}
	stays(t, disk, oldPath, content)
}

// TestOpenDamagedFormat1: Open of a damaged file of format 1 says to migrate
// it too, and not to repair it.
func TestOpenDamagedFormat1(t *testing.T) {
	content := goldenFile(t, 1, "closed.h5")
	root := int(le.Uint64(content[4096+56+36:]))
	for name, damage := range map[string]func() []byte{
		"root":       func() []byte { p := bytes.Clone(content); p[root+9]++; return p },
		"superblock": func() []byte { p := bytes.Clone(content); p[20]++; return p },
		"one slot":   func() []byte { p := bytes.Clone(content); p[4096+500]++; return p },
		"cut":        func() []byte { return content[:len(content)/2] },
	} {
		damaged := damage()
		disk := oldDisk(t, damaged)
		for _, salvage := range []bool{false, true} {
			o := smallOptions(disk)
			o.ReadOnly, o.Salvage = salvage, salvage
			wantSays(t, errOf(Open(oldPath, o)), ErrLegacy, "cidstore migrate", name, "salvage", salvage)
		}
		stays(t, disk, oldPath, damaged, name)
	}
}
