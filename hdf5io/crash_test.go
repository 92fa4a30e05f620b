package hdf5io

import (
	"context"
	"errors"
	"testing"

	"github.com/cidstore/cidstore/internal/crashfs"
	"github.com/cidstore/cidstore/internal/errfs"
	"github.com/cidstore/cidstore/internal/invariants"
	"github.com/cidstore/cidstore/vfs"
)

const testName = "/test.h5"

// createOn makes the small file on a file system of a test.
func createOn(t testing.TB, fs vfs.FS, o Options) (*File, vfs.File) {
	t.Helper()
	o.UUID = testUUID
	raw, err := fs.OpenFile(testName, vfs.ReadWrite|vfs.Create, 0o600)
	must(t, err)
	f, err := Create(raw, o, []byte("payload 0"), buildTestTree)
	must(t, err)
	return f, raw
}

// openOn opens it; the error is Open's.
func openOn(t testing.TB, fs vfs.FS, o Options) (*File, vfs.File, OpenReport, error) {
	t.Helper()
	flag := vfs.ReadWrite
	if o.ReadOnly {
		flag = vfs.ReadOnly
	}
	raw, err := fs.OpenFile(testName, flag, 0)
	must(t, err)
	f, report, err := Open(raw, o)
	if err != nil {
		raw.Close()
	}
	return f, raw, report, err
}

// checkClean fails the test for everything that Check reports.
func checkClean(t testing.TB, v *View) CheckStats {
	t.Helper()
	stats, err := v.Check(context.Background(), func(err error) { t.Errorf("check: %v", err) })
	if err != nil {
		t.Fatalf("check of commit %d: %v", v.Commit(), err)
	}
	return stats
}

// smallGrowth makes files of some 100 KiB, and uses space again as soon as
// possible.
var smallGrowth = Options{GrowStep: 32 << 10, Quarantine: -1}

// TestCrashAtEveryWrite cuts the power at every write and sync of some commits and
// looks at the disks that may be left. Each opens, has the complete root from
// before or after the commit, and can be written again.
func TestCrashAtEveryWrite(t *testing.T) {
	fs := crashfs.New(crashfs.Options{})
	f, raw := createOn(t, fs, smallGrowth)
	trace := fs.Record()
	const rounds = 12
	for round := uint64(1); round <= rounds; round++ {
		if round == rounds/2 {
			must(t, f.Settle(), f.Trim(0, nil))
		}
		commitRound(t, f, round)
		fs.Mark(round)
	}
	trace.Stop()
	f.Close()
	raw.Close()
	plan := crashfs.Plan{Seed: 1, Subsets: 6, Random: 4, PerCut: 30}
	if testing.Short() || invariants.Sparse > 1 {
		plan.PerCut = 8
	}
	run := trace.Enumerate(plan)
	images := 0
	for image := range run.Images() {
		acked := uint64(0)
		if n := len(image.Marks); n > 0 {
			acked = image.Marks[n-1].(uint64)
		}
		checkImage(t, image, acked, images%4 == 0)
		if images++; t.Failed() {
			t.Fatalf("image: %v", image)
		}
	}
	if images < 100 {
		t.Fatalf("%d images", images)
	}
	t.Logf("%d images", images)
}

// checkImage opens a disk that a crash has left after acked rounds were committed.
func checkImage(t *testing.T, image *crashfs.Image, acked uint64, goOn bool) {
	f, raw, report, err := openOn(t, image.FS(), smallGrowth)
	if err != nil {
		t.Fatalf("open: %v\nimage: %v", err, image)
	}
	defer raw.Close()
	defer f.Close()
	round := roundOf(t, f.View())
	if round != acked && round != acked+1 {
		t.Fatalf("round %d after a crash with %d acknowledged, report %+v\nimage: %v", round, acked, report, image)
	}
	checkRound(t, f.View(), round)
	checkClean(t, f.View())
	if goOn {
		for range 3 {
			round++
			checkRound(t, commitRound(t, f, round), round)
		}
		checkClean(t, f.View())
	}
}

// roundOf is the round that a View is of.
func roundOf(t testing.TB, v *View) uint64 {
	t.Helper()
	a, ok, err := v.Attribute("/config", "round")
	if err != nil || !ok {
		t.Fatalf("round: %v, %v", ok, err)
	}
	return uint64(a.Data[0])
}

// TestEveryCallFails makes each call of some commits fail, once, and then with all
// after it. Each commit is an error or a success; a reopened file has the last
// acknowledged root or the one of the commit that failed.
func TestEveryCallFails(t *testing.T) {
	for _, forever := range []bool{false, true} {
		for i, err := range []error{errfs.ErrIO, vfs.ErrNoSpace} {
			if testing.Short() && forever == (i == 0) {
				continue
			}
			calls := failCall(t, errfs.Rule{Ops: errfs.Any &^ errfs.Unlock, Err: err})
			if calls < 30 {
				t.Fatalf("%d calls", calls)
			}
			for n := 1; n <= calls; n += invariants.Sparse {
				failCall(t, errfs.Rule{Ops: errfs.Any &^ errfs.Unlock, Nth: n, Forever: forever, Partial: 100, Err: err})
				if t.Failed() {
					t.Fatalf("call %d of %d, forever %v, %v", n, calls, forever, err)
				}
			}
		}
	}
}

// failCall opens the file under the rule, commits some rounds and returns how
// many calls matched.
func failCall(t *testing.T, rule errfs.Rule) int {
	t.Helper()
	inner := crashfs.New(crashfs.Options{})
	created, createdRaw := createOn(t, inner, smallGrowth)
	created.Close()
	createdRaw.Close()
	fs := errfs.New(inner)
	raw, err := fs.OpenFile(testName, vfs.ReadWrite, 0)
	must(t, err)
	fault := fs.Add(rule)
	acked, tried := failRounds(t, raw)
	calls := fault.Matched()
	fs.Clear()
	raw.Close()
	f, raw, report, err := openOn(t, inner, smallGrowth)
	if err != nil {
		t.Fatalf("reopen: %v", err)
	}
	defer raw.Close()
	defer f.Close()
	round := roundOf(t, f.View())
	if round < acked || round > tried {
		t.Fatalf("round %d of %d acknowledged and %d tried, report %+v", round, acked, tried, report)
	}
	checkRound(t, f.View(), round)
	checkClean(t, f.View())
	checkRound(t, commitRound(t, f, round+1), round+1)
	checkClean(t, f.View())
	return calls
}

// failRounds commits until something fails, and after that as long as the file
// accepts commits.
func failRounds(t *testing.T, raw vfs.File) (acked, tried uint64) {
	f, _, err := Open(raw, smallGrowth)
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for attempt := 0; attempt < 6; attempt++ {
		round := acked + 1
		tx, err := f.Begin()
		if err != nil {
			break
		}
		tried = round
		if err = writeRound(tx, round); err == nil {
			_, err = tx.Commit(nil)
		}
		if err == nil {
			acked = round
			checkRoundUnlessIO(t, f.View(), round)
		}
		tx.Abort()
		if attempt == 3 {
			if err := f.Reserve(100 << 10); err == nil && f.Space().Free < 100<<10 {
				t.Errorf("reserved, but %+v", f.Space())
			}
			f.Settle()
		}
	}
	return acked, tried
}

// checkRoundUnlessIO reads one thing of each kind: reads may fail, but not return
// wrong data.
func checkRoundUnlessIO(t *testing.T, v *View, round uint64) {
	if got := roundOf(t, v); got != round {
		t.Errorf("round %d, want %d", got, round)
	}
	d, err := v.Dataset("/buckets/state")
	if err != nil {
		t.Error(err)
		return
	}
	if p, err := d.Page(round % 2); err == nil && string(p.Data()) != string(pageBytes(round%2, round)) {
		t.Errorf("page %d of round %d: other bytes", round%2, round)
	}
}

// TestSyncFails: a sync that fails is not retried, nothing is written after it, and
// the file has the last root whose sync succeeded, whatever the cache says.
func TestSyncFails(t *testing.T) {
	for _, mode := range []crashfs.SyncFailure{crashfs.FailKeep, crashfs.FailRevert, crashfs.FailLost} {
		// Syncs of a commit: of the data, the slot, the superblock.
		for skip := range 3 {
			disk := crashfs.New(crashfs.Options{})
			fs := errfs.New(disk)
			f, raw := createOn(t, fs, smallGrowth)
			commitRound(t, f, 1)
			disk.FailSync(mode, skip, 1)
			err := tryRound(f, 2)
			if !errors.Is(err, ErrPoisoned) || !errors.Is(err, crashfs.ErrSync) || !errors.Is(f.Failed(), ErrPoisoned) {
				t.Fatalf("mode %d, sync %d: %v", mode, skip, err)
			}
			later := fs.Add(errfs.Rule{Ops: errfs.Changes | errfs.Syncs})
			for _, err := range []error{tryRound(f, 2), f.Settle(), f.Reserve(1 << 20), f.Trim(0, nil), f.Region(FirstExtent, 64).WriteSync([]byte{1}, 0)} {
				if !errors.Is(err, ErrPoisoned) {
					t.Errorf("afterwards: %v", err)
				}
			}
			if n := later.Matched(); n > 0 {
				t.Errorf("%d writes and syncs afterwards", n)
			}
			checkRound(t, f.View(), 1)
			f.Close()
			raw.Close()
			f, raw, _, err = openOn(t, disk, smallGrowth)
			if err != nil {
				t.Fatalf("mode %d, sync %d: %v", mode, skip, err)
			}
			round := roundOf(t, f.View())
			if round != 1 && (round != 2 || skip == 0) {
				t.Fatalf("mode %d, sync %d: round %d", mode, skip, round)
			}
			checkRound(t, commitRound(t, f, round+1), round+1)
			checkClean(t, f.View())
			f.Close()
			raw.Close()
		}
	}
}

// TestNothingIsWrittenAfterPoison: whatever a Tx does when the file is poisoned, nothing
// more is written or synced.
func TestNothingIsWrittenAfterPoison(t *testing.T) {
	big := make([]byte, 3*writeUnit)
	for name, do := range map[string]func(f *File, tx *Tx) error{
		"Place":  func(_ *File, tx *Tx) error { _, err := tx.Place(big); return err },
		"Sync":   func(_ *File, tx *Tx) error { return tx.Sync() },
		"Commit": func(_ *File, tx *Tx) error { _, err := tx.Commit(nil); return err },
		"Settle": func(f *File, _ *Tx) error { return f.Settle() },
		"grow":   func(f *File, _ *Tx) error { return f.Reserve(8 << 20) },
	} {
		for _, later := range []bool{false, true} { // at the next sync, which another goroutine may wait for
			hooks, disk := &errfs.Hooks{}, errfs.New(crashfs.New(crashfs.Options{FileLimit: 64 << 20}))
			f, raw := createOn(t, hooks.On(disk), Options{})
			tx, err := f.Begin()
			must(t, err)
			written, writes := disk.Add(errfs.Rule{Ops: errfs.Changes | errfs.Syncs}), 0
			poison := func() { f.Poison(errors.New("elsewhere")); writes = written.Matched() }
			if hooks.Synced = func(vfs.File, int64) { hooks.Synced = nil; poison() }; !later {
				hooks.Synced = nil
				poison()
			}
			err = do(f, tx)
			if !later && !errors.Is(err, ErrPoisoned) {
				t.Errorf("%s, later %t: %v", name, later, err)
			}
			if after := written.Matched(); f.Failed() != nil && after != writes {
				t.Errorf("%s, later %t: %d calls write or sync after poison", name, later, after-writes)
			}
			tx.Abort()
			must(t, f.Close(), raw.Close())
		}
	}
}
