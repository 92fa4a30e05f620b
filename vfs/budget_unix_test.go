//go:build darwin || freebsd || linux

package vfs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestAddressSpaceIsBounded: mappings take what they ask for, then less, then are
// refused, and give back what they had.
func TestAddressSpaceIsBounded(t *testing.T) {
	page := int64(os.Getpagesize())
	old := mappings.limit
	t.Cleanup(func() { mappings.limit = old })
	if mappings.used != 0 || mappings.count != 0 {
		t.Fatalf("%d bytes in %d mappings before the test", mappings.used, mappings.count)
	}
	mappings.limit = 11 * page
	f := create(t, filepath.Join(t.TempDir(), "f"))
	must(t, f.Truncate(2*page))
	var got []Mapping
	for _, want := range []int64{8, 2, 0} { // pages: all of 8, the quarter of 8, none for the 2 of the file
		m, err := f.Map(8 * page)
		if want == 0 {
			if !errors.Is(err, ErrNoMap) || !errors.Is(err, errAddressSpace) {
				t.Fatalf("error %v, want %v of %v", err, ErrNoMap, errAddressSpace)
			}
			break
		}
		must(t, err)
		if n := int64(len(m.(*unixMapping).data)); n != want*page {
			t.Fatalf("%d bytes set aside, want %d pages", n, want)
		}
		got = append(got, m)
	}
	for _, m := range got {
		must(t, m.Close())
	}
	if mappings.used != 0 || mappings.count != 0 {
		t.Fatalf("%d bytes in %d mappings after all are closed", mappings.used, mappings.count)
	}
}

// TestMappingsAreCounted: the system bounds their number, and so does this package.
func TestMappingsAreCounted(t *testing.T) {
	asked := 0
	a := addressSpace{measure: func() int64 { asked++; return 1 << 40 }}
	for range mostMappings {
		if !a.take(1) {
			t.Fatalf("refused with %d mappings", a.count)
		}
	}
	if a.take(1) {
		t.Fatal("one mapping too many")
	}
	a.give(1)
	if !a.take(1) || asked != 1 {
		t.Fatalf("refused after one was given back, or measured %d times", asked)
	}
}

// TestAddressSpaceLeavesHalf: what is measured can be mapped, and leaves half for
// the program.
func TestAddressSpaceLeavesHalf(t *testing.T) {
	if n := freeAddressSpace(); n < 1<<28 || n > 1<<46 {
		t.Fatalf("%d bytes", n)
	}
}
