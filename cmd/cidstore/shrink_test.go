package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore"
)

// TestAdviseMaintain: shrink advises maintain where that frees more than a tenth.
func TestAdviseMaintain(t *testing.T) {
	for maintained, want := range map[int64]string{
		4500: "", 4499: "note: about 4499 bytes if cidstore maintain s.h5 goes before shrink\n",
	} {
		path := filepath.Join(t.TempDir(), "messages")
		messages, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		p := &program{messages: messages}
		p.adviseMaintain("s.h5", cidstore.Space{File: 6000, Shrunk: 5000, Maintained: maintained})
		messages.Close()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%d: %q, %v, want %q", maintained, got, err, want)
		}
	}
}
