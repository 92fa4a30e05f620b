package vfs

import (
	"io/fs"
	"os"
)

// CopyAccess gives the file to the owner, group and permissions of the file from;
// on Linux its POSIX access control list too, and never one that to had from its
// directory. It does what it may, and the error says what it could not keep:
// then nobody may do with to what he might not do with from, except the caller,
// who owns it. On other file systems than the machine's it does nothing.
func CopyAccess(to, from File) error {
	t, ok := to.(*osFile)
	f, alike := from.(*osFile)
	if !ok || !alike {
		return nil
	}
	return copyAccess(t.f, f.f)
}

// Kind is the type and the permissions of what stands under name itself: a
// symbolic link is not followed on the machine's file system, and others have none.
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
