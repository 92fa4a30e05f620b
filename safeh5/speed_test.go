package safeh5

import (
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/oracle"
)

const (
	speedVariable = "CIDSTORE_SAFEH5_SPEED" // 1, or in the child the path of the file
	speedChunks   = 1024                    // of 1 MiB
	speedChunk    = 1 << 17                 // float64s
	speedEvery    = 100                     // chunks of an Update
)

// TestSpeedChild writes 1 GiB in chunks of 1 MiB, with an Update every 100; alone it does
// nothing.
func TestSpeedChild(t *testing.T) {
	path := os.Getenv(speedVariable)
	if !filepath.IsAbs(path) {
		t.Skip("a part of TestSpeedBesideH5py")
	}
	f := mustGet(Open(path, nil))(t)
	var values []byte // h5py too is given them as they stand in the file
	for i := range speedChunk {
		values = binary.LittleEndian.AppendUint64(values, math.Float64bits(float64(i)*1.1))
	}
	for n := 0; n < speedChunks; {
		err := f.Update(func(tx *Tx) error {
			d, err := tx.Dataset("/values")
			if n == 0 {
				d, err = tx.CreateDataset("/values", Spec{Type: 0.0, Dims: []uint64{0}, MaxDims: []uint64{Unlimited}, Chunk: []uint32{speedChunk}})
			}
			for end := min(n+speedEvery, speedChunks); n < end && err == nil; n++ {
				err = d.AppendBytes(values)
			}
			return err
		})
		must(t, err)
	}
	must(t, f.Close())
}

const speedProgram = `
import h5py, numpy, sys
values = numpy.arange(1 << 17) * 1.1
with h5py.File(sys.argv[1], "w") as f:
    d = f.create_dataset("values", (0,), "f8", maxshape=(None,), chunks=(1 << 17,))
    for i in range(1024):
        d.resize(((i + 1) << 17,))
        d[i << 17:] = values
`

// TestSpeedBesideH5py writes the same with h5py, without a flush, and prints what both took. It
// compares nothing: another program may have the machine.
func TestSpeedBesideH5py(t *testing.T) {
	if os.Getenv(speedVariable) != "1" {
		t.Skip("for the record; " + speedVariable + "=1 runs it")
	}
	python, dir := oracle.H5py(t), t.TempDir()
	for range 3 {
		for _, name := range []string{"h5py", "safeh5"} {
			path := filepath.Join(dir, name+".h5")
			cmd := exec.Command(python, "-c", speedProgram, path)
			if name == "safeh5" {
				cmd = exec.Command(os.Args[0], "-test.run=^TestSpeedChild$")
				cmd.Env = append(os.Environ(), speedVariable+"="+path)
			}
			start := time.Now()
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("%-6s %5.2f s, %.2f s of CPU in user and %.2f s in system mode", name, time.Since(start).Seconds(),
				cmd.ProcessState.UserTime().Seconds(), cmd.ProcessState.SystemTime().Seconds())
			must(t, os.Remove(path))
		}
	}
}
