package vfs

import (
	"io/fs"
	"os"
)

// CopyAccess copies the owner, the group and the permissions of a file to another one. On
// Linux it also copies the POSIX access control list, which replaces the one that the
// directory has given. It does what it is permitted to do, and the error says what it could
// not copy. Even then, nobody except the caller, who owns the copy, may do more with it
// than with the original. On file systems other than the machine's it does nothing.
func CopyAccess(to, from File) error {
	t, ok := to.(*osFile)
	f, alike := from.(*osFile)
	if !ok || !alike {
		return nil
	}
	return copyAccess(t.f, f.f)
}

// Kind returns the type and the permissions of the file at name. It does not follow a
// symbolic link, which only the machine's file system has.
func Kind(on FS, name string) (fs.FileMode, error) {
	if on == OS() {
		info, err := os.Lstat(name)
		if err != nil {
			return 0, err
		}
		return info.Mode(), nil
	}
	info, err := on.Stat(name)
	return info.Mode, err
}
