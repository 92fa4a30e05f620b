//go:build race

package crashfs

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// This is why mappings alias the bytes that are written: a write to bytes that are
// read is reported as a race, and one beside them is not.
func TestRaceDetectorSeesWritesUnderAReader(t *testing.T) {
	if where := os.Getenv("CRASHFS_TEST_CHILD"); where != "" {
		readBesideWrites(t, map[string]int64{"under": 0, "beside": pageSize}[where])
		return
	}
	for _, where := range []string{"under", "beside"} {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "CRASHFS_TEST_CHILD="+where)
		out, err := cmd.CombinedOutput()
		if reported := strings.Contains(string(out), "DATA RACE"); reported != (where == "under") {
			t.Errorf("writes %s the reader: %v\n%s", where, err, out)
		}
	}
}

// readBesideWrites looks at the first page of a file through a mapping while
// another goroutine writes at off. The two make no common call of the testing
// package, whose locks would order them.
func readBesideWrites(t *testing.T, off int64) {
	f := open(t, New(Options{}), "f")
	must(t, f.WriteAt(make([]byte, 2*pageSize), 0))
	m, err := f.Map(1 << 20)
	must(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		sum := 0
		for i := range int64(1000) {
			v, err := m.View(i, 1)
			if err != nil {
				t.Error(err)
				return
			}
			sum += int(v[0])
		}
		if sum < 0 {
			t.Error("bytes are not negative")
		}
	})
	running.Go(func() {
		for i := range int64(1000) {
			if err := f.WriteAt([]byte{1}, off+i); err != nil {
				t.Error(err)
				return
			}
		}
	})
	running.Wait()
}
