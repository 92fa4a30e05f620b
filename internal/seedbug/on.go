//go:build seedbug

// Package seedbug puts known faults into the store, only in builds with the tag
// seedbug. A test campaign that does not find each of them proves nothing.
package seedbug

import (
	"os"
	"slices"
	"strings"
)

// On reports whether the environment variable CIDSTORE_SEEDBUG, a list separated by
// commas, contains name.
func On(name string) bool {
	return slices.Contains(strings.Split(os.Getenv("CIDSTORE_SEEDBUG"), ","), name)
}
