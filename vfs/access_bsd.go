//go:build darwin || freebsd

package vfs

import (
	"errors"
	"os"
)

// Access control lists have special calls on these systems, and are not copied.

func accessList(*os.File) ([]byte, error) { return nil, nil }

func setAccessList(*os.File, []byte) error { return errors.ErrUnsupported }

func dropAccessList(*os.File) error { return nil }
