package main

import "testing"

func TestCounted(t *testing.T) {
	for n, want := range map[int]string{0: "0 defects", 1: "1 defect", 2: "2 defects"} {
		if got := counted(n, "defect"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
