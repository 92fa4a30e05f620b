package vfs

import "os"

// copyAccess does nothing: on this system a file has the access of its directory.
func copyAccess(_, _ *os.File) error { return nil }
