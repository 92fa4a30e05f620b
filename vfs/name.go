package vfs

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
)

// LongestName is the longest name of a file, in bytes, that every local file system
// takes: most take 255, and eCryptfs takes 143.
const LongestName = 143

// TemporaryName returns path with a suffix: the name of the file while it is being made.
// If that would be too long, a digest takes the place of the file's name, so that all who
// make this file use one temporary name, and nobody uses it for another file.
func TemporaryName(path, suffix string) string {
	dir, name := filepath.Split(path)
	if len(name)+len(suffix) > LongestName {
		digest := sha256.Sum256([]byte(name))
		name = fmt.Sprintf("%x", digest[:16])
	}
	return dir + name + suffix
}
