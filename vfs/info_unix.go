//go:build darwin || freebsd || linux

package vfs

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func statPath(name string) (Info, error) {
	st, err := os.Stat(name)
	if err != nil {
		return Info{}, unwrapPath(err)
	}
	info := Info{Size: st.Size(), Mode: st.Mode()}
	var sfs unix.Statfs_t
	if err := retry(func() error { return unix.Statfs(name, &sfs) }); err != nil {
		return Info{}, err
	}
	info.Free = int64(sfs.Bavail) * int64(sfs.Bsize)
	fillInfo(&info, st, &sfs)
	return info, nil
}

func statFD(fd uintptr, st fs.FileInfo, info *Info) error {
	var sfs unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(int(fd), &sfs) }); err != nil {
		return err
	}
	fillInfo(info, st, &sfs)
	return nil
}

func fstatShape(fd uintptr) (size int64, links uint64, err error) {
	var st unix.Stat_t
	err = retry(func() error { return unix.Fstat(int(fd), &st) })
	return int64(st.Size), uint64(st.Nlink), err
}

func fillInfo(info *Info, st fs.FileInfo, sfs *unix.Statfs_t) {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		info.Device, info.Inode = uint64(sys.Dev), uint64(sys.Ino)
		info.Allocated = int64(sys.Blocks) * 512 // st_blocks counts these, whatever the block size
	}
	fillFileSystem(info, sfs)
}

// unwrapPath returns the system's error in an error of package os, to be wrapped
// again.
func unwrapPath(err error) error {
	if pe, ok := err.(*fs.PathError); ok {
		return pe.Err
	}
	return err
}
