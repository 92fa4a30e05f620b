package cidstore_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/invariants"
)

// foreignEdits are what HDF5's own programs do to a file, with the advice of their
// messages or without.
var foreignEdits = []struct{ name, program, arguments string }{
	{"h5clear increment", "h5clear", "--increment=4096 FILE"},
	{"h5clear increment twice", "sh", "-c 'h5clear --increment=512 FILE && h5clear --increment=100000 FILE'"},
	{"new dataset", "/usr/bin/python3", `-c "import h5py; f = h5py.File('FILE', 'a'); f['note'] = list(range(1000)); f.close()"`},
	{"new datasets in a group", "/usr/bin/python3", `-c "import h5py; f = h5py.File('FILE', 'a')
for i in range(50): f.create_dataset('notes/%d' % i, data=[i], chunks=True, maxshape=(None,))
f.close()"`},
	{"many datasets", "/usr/bin/python3", `-c "import h5py; f = h5py.File('FILE', 'a')
for i in range(40): f['note %d' % i] = i
f.close()"`},
	{"many datasets in a group", "/usr/bin/python3", `-c "import h5py; f = h5py.File('FILE', 'a')
for i in range(40): f['config/note %d' % i] = i
f.close()"`},
	{"added and removed", "/usr/bin/python3", `-c "import h5py; f = h5py.File('FILE', 'a'); f['note'] = [7] * 100000; f.close()
f = h5py.File('FILE', 'a'); del f['note']; f.close()"`},
	{"attribute of a dataset", "/usr/bin/python3", `-c "import h5py; f = h5py.File('FILE', 'a'); f['buckets/state'].attrs['note'] = 5; f.close()"`},
	{"attribute of the root", "/usr/bin/python3", `-c "import h5py; f = h5py.File('FILE', 'a'); f.attrs['note'] = 'mine'; f.close()"`},
	{"dataset in latest format", "/usr/bin/python3", `-c "import h5py; f = h5py.File('FILE', 'a', libver='latest'); f['note'] = 1; f.close()"`},
}

// edit runs a foreign program on a file.
func edit(t *testing.T, program, arguments, file string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skip(err)
	}
	out, err := exec.Command("sh", "-c", program+" "+strings.ReplaceAll(arguments, "FILE", file)).CombinedOutput()
	if err != nil && strings.Contains(string(out), "No module named") {
		t.Skip(string(out))
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
}

// unchanged returns a function that fails the test if the file at path has changed.
func unchanged(t *testing.T, path string) func() {
	t.Helper()
	before := mustGet(os.ReadFile(path))(t)
	return func() {
		t.Helper()
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("the original has changed, or %v", err)
		}
	}
}

// mustHold opens the store at path for writing, checks it, and compares it.
func mustHold(t *testing.T, path string, model sets) {
	t.Helper()
	s := open(t, path, nil)
	defer s.Close()
	mustBeWhole(t, s)
	if got := holdsWhatCanBeRead(t, s, model); got != model.pairs() {
		t.Errorf("%d pairs, want %d", got, model.pairs())
	}
	wantErr(t, s.Insert(big, cidstore.FromUint64(1)), nil)
}

// TestRepairForeignEdit: a store that an HDF5 program has written to is refused by
// everybody, with the name of what helps. Salvage reads it, and Repair makes a copy
// with every pair.
func TestRepairForeignEdit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.h5")
	model := makeDamageable(t, path)
	for _, e := range invariants.Sample(foreignEdits) {
		t.Run(e.name, func(t *testing.T) {
			dir := t.TempDir()
			bad, good := filepath.Join(dir, "bad.h5"), filepath.Join(dir, "good.h5")
			copyChanged(t, path, bad, func(data []byte) []byte { return data })
			edit(t, e.program, e.arguments, bad)
			cidstore.Unchecked(t, bad, "an HDF5 program has changed it")
			same := unchanged(t, bad)
			for _, o := range []*cidstore.Options{nil, {ReadOnly: true}} {
				_, err := cidstore.Open(bad, o)
				if !errors.Is(err, cidstore.ErrForeignEdit) || !strings.Contains(err.Error(), "cidstore repair STORE NEW --mode rollback") {
					t.Fatalf("Open: %v, want ErrForeignEdit and what to do", err)
				}
			}
			s := open(t, bad, &cidstore.Options{ReadOnly: true, Salvage: true})
			if got := holdsWhatCanBeRead(t, s, model); got != model.pairs() {
				t.Errorf("salvage: %d pairs, want %d", got, model.pairs())
			}
			wantErr(t, s.Recovery().Salvaged, cidstore.ErrForeignEdit, "Salvaged")
			wantErr(t, s.Close(), nil)
			report, err := cidstore.Repair(t.Context(), bad, good, cidstore.RepairRollback)
			if err != nil {
				t.Fatalf("%v, %+v", err, report)
			}
			if report.Pairs != uint64(model.pairs()) || report.Keys != uint64(len(model)) || report.Commit == 0 || report.LeftOutCount == 0 {
				t.Errorf("%+v, want %d keys, %d pairs", report, len(model), model.pairs())
			}
			mustHold(t, good, model)
			wantErr(t, errOf(cidstore.Repair(t.Context(), bad, good, cidstore.RepairRollback)), fs.ErrExist, "over an existing file")
			same()
		})
	}
}

// TestRepairTakesTheLog: what only the log has is in the copy.
func TestRepairTakesTheLog(t *testing.T) {
	dir := t.TempDir()
	path, bad, good := filepath.Join(dir, "s.h5"), filepath.Join(dir, "bad.h5"), filepath.Join(dir, "good.h5")
	model := makeDamageable(t, path)
	s := open(t, path, &cidstore.Options{GCInterval: -1})
	var b cidstore.Batch // one: many would make the log grow, which checkpoints some of them
	for i := range 50 {
		key, value := numbered(9000+i), cidstore.FromUint64(uint64(i))
		b.Insert(key, value)
		b.Delete(numbered(i))
		model[key] = []cidstore.E{value}
		delete(model, numbered(i))
	}
	must(t, s.Apply(&b))
	copyChanged(t, path, bad, func(data []byte) []byte { return data }) // the writer is not closed
	must(t, s.Close())
	edit(t, "h5clear", "--status --increment=1 FILE", bad)
	report, err := cidstore.Repair(t.Context(), bad, good, cidstore.RepairRollback)
	if err != nil || report.OperationsReplayed != 100 {
		t.Fatalf("%v, %+v", err, report)
	}
	mustHold(t, good, model)
}

// TestRepairDamaged: rollback refuses a store of which something cannot be read, and
// leaves nothing; salvage copies the rest and names what it left out.
func TestRepairDamaged(t *testing.T) {
	dir := t.TempDir()
	path, bad, good := filepath.Join(dir, "s.h5"), filepath.Join(dir, "bad.h5"), filepath.Join(dir, "good.h5")
	model := makeDamageable(t, path)
	lost := map[cidstore.E]bool{numbered(2998): true, numbered(2999): true}
	copyChanged(t, path, bad, func(data []byte) []byte {
		for key := range lost {
			id := key.AppendHDF5(nil)
			for at := 0; ; {
				next := bytes.Index(data[at:], id)
				if next < 0 {
					break
				}
				at += next
				data[at] ^= 1
			}
		}
		return data
	})
	same := unchanged(t, bad)
	if _, err := cidstore.Repair(t.Context(), bad, good, cidstore.RepairRollback); !errors.Is(err, cidstore.ErrCorrupt) || !strings.Contains(err.Error(), "salvage") {
		t.Fatalf("rollback: %v, want ErrCorrupt and the other mode", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Fatalf("%v, %v after a repair that failed", names, err)
	}
	report, err := cidstore.Repair(t.Context(), bad, good, cidstore.RepairSalvage)
	if err != nil || report.LeftOutCount == 0 || !strings.Contains(report.LeftOut[0].Error(), "bucket") {
		t.Fatalf("salvage: %v, %+v", err, report)
	}
	for key := range lost {
		delete(model, key)
	}
	mustHold(t, good, model)
	same()
	if _, err := cidstore.Repair(t.Context(), bad, filepath.Join(dir, "x.h5"), "magic"); err == nil {
		t.Error("an unknown mode was taken")
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	wantErr(t, errOf(cidstore.Repair(stopped, bad, filepath.Join(dir, "x.h5"), cidstore.RepairSalvage)), context.Canceled, "a stopped repair")
	if names, _ := os.ReadDir(dir); len(names) != 3 {
		t.Errorf("%v after a repair that was stopped", names)
	}
}

// TestSalvageCut cuts a file at many places. After the commit slots each opens for
// salvage, or says why not in one error; nothing that is given is wrong.
func TestSalvageCut(t *testing.T) {
	dir := t.TempDir()
	path, bad := filepath.Join(dir, "s.h5"), filepath.Join(dir, "bad.h5")
	model := makeDamageable(t, path)
	size := mustGet(os.Stat(path))(t).Size()
	cuts := []int64{0, 1, 100, 4095, 4096, 8191, 8192, 12287, 12288, 12289, size / 5, size / 2, size * 9 / 10, size - 4096, size - 1}
	for i := range int64(40) {
		cuts = append(cuts, 12288+(size-12288)*i/40)
	}
	slices.Sort(cuts)
	opened, before := 0, 0
	for _, cut := range cuts {
		copyChanged(t, path, bad, func(data []byte) []byte { return data[:cut] })
		for _, o := range []*cidstore.Options{{ReadOnly: true}, {ReadOnly: true, Salvage: true}} {
			s, err := cidstore.Open(bad, o)
			switch {
			case err == nil && !o.Salvage:
				t.Errorf("cut at %d: it opens", cut)
				s.Close()
			case err == nil:
				opened++
				n := holdsWhatCanBeRead(t, s, model)
				t.Logf("cut at %d of %d: %d of %d pairs", cut, size, n, model.pairs())
				if n < before {
					t.Errorf("cut at %d: %d pairs, a shorter one gave %d", cut, n, before)
				}
				before = n
				wantErr(t, s.Recovery().Salvaged, cidstore.ErrTruncated, "cut at", cut)
				wantErr(t, s.Close(), nil)
			case !errors.Is(err, cidstore.ErrTruncated) && !errors.Is(err, cidstore.ErrNotCIDStore):
				t.Errorf("cut at %d, salvage %v: %v", cut, o.Salvage, err)
			case o.Salvage && opened > 0:
				t.Errorf("cut at %d: a shorter one opened, this one does not: %v", cut, err)
			}
		}
	}
	if opened == 0 || before != model.pairs() { // how many open depends on where the headers lie
		t.Errorf("%d cuts opened, the longest gave %d of %d pairs", opened, before, model.pairs())
	}
}
