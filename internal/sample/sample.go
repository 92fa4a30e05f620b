// Package sample runs random cases, fewer of them under the race detector. Only tests
// import it.
package sample

import (
	"flag"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/internal/invariants"
)

// Check is rapid.Check for a property that one goroutine checks: with as many cases as
// rapid's flag says, or under the race detector one in invariants.Sparse of them. The
// test must not be a parallel one.
func Check(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	checks := flag.Lookup("rapid.checks").Value
	before := checks.String()
	set := func(n string) {
		if err := checks.Set(n); err != nil {
			t.Fatal(err)
		}
	}
	count, err := strconv.Atoi(before)
	if err != nil {
		t.Fatal(err)
	}
	defer set(before)
	set(strconv.Itoa(max(1, count/invariants.Sparse)))
	rapid.Check(t, property)
}
