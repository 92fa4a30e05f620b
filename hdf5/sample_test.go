package hdf5

import (
	"path/filepath"
	"testing"
)

// TestSamples compares each file of testdata with its description, which
// testdata/describe.py made.
func TestSamples(t *testing.T) {
	descriptions, err := filepath.Glob(filepath.Join("testdata", "*.h5.txt"))
	if err != nil || len(descriptions) == 0 {
		t.Fatalf("no descriptions in testdata: %v", err)
	}
	for _, description := range descriptions {
		path := description[:len(description)-len(".txt")]
		t.Run(filepath.Base(path), func(t *testing.T) { wantDescription(t, path, description) })
	}
}
