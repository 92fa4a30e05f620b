package hdf5

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzOpen reads all that can be read of any bytes, with checksums and without.
func FuzzOpen(f *testing.F) {
	samples, err := filepath.Glob(filepath.Join("testdata", "*.h5"))
	if err != nil || len(samples) == 0 {
		f.Fatalf("no samples: %v", err)
	}
	for _, path := range samples {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if len(data) <= 16<<10 { // larger ones are changed too rarely where it matters
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		newExercise(data, 64<<10, true)
		newExercise(data, 64<<10, false)
	})
}
