//go:build seedbug

package wal

import "testing"

// Each seeded fault breaks a law; without one they all hold.
func TestSeededFaultsAreFound(t *testing.T) {
	s := smallSample(t)
	for name, law := range map[string]func(testing.TB) error{
		"epoch-dropped":         func(t testing.TB) error { return lawGhost(t) },
		"commit-mark-ignored":   func(testing.TB) error { return lawCut(s) },
		"crc-skipped":           func(testing.TB) error { return lawFlip(s) },
		"truncate-at-first-bad": func(testing.TB) error { return lawFlip(s) },
		"anchor-not-saved":      func(testing.TB) error { return lawWrap(5) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := law(t); err != nil {
				t.Fatalf("without the fault: %v", err)
			}
			t.Setenv("CIDSTORE_SEEDBUG", name)
			err := law(t)
			if err == nil {
				t.Error("the fault was not found")
			}
			t.Log(err)
		})
	}
}
