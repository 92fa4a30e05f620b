//go:build !seedbug

// Package seedbug puts known faults into the store, only in builds with the tag
// seedbug. A test campaign that does not find each of them proves nothing.
package seedbug

// On is false: without the build tag there are no seeded faults.
func On(string) bool { return false }
