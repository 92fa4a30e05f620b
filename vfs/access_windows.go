package vfs

import "os"

// copyAccess: a file has the access of its directory here.
func copyAccess(_, _ *os.File) error { return nil }
