//go:build darwin || freebsd || linux

package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

func copyAccess(to, from *os.File) error {
	like, err := from.Stat()
	if err != nil {
		return err
	}
	mine, err := to.Stat()
	if err != nil {
		return err
	}
	mode, lost := like.Mode().Perm(), error(nil)
	want, have := like.Sys().(*syscall.Stat_t), mine.Sys().(*syscall.Stat_t)
	if want.Uid != have.Uid {
		if err := to.Chown(int(want.Uid), -1); err != nil {
			lost = fmt.Errorf("owner %d: %w", want.Uid, unwrapPath(err))
		}
	}
	groupKept := true
	if want.Gid != have.Gid {
		if err := to.Chown(-1, int(want.Gid)); err != nil {
			lost = errors.Join(lost, fmt.Errorf("group %d: %w", want.Gid, unwrapPath(err)))
			groupKept = false
		}
	}
	list, err := accessList(from)
	if err == nil {
		err = dropAccessList(to)
	}
	if err != nil {
		return errors.Join(lost, fmt.Errorf("permissions %v: access control list: %w", mode, err))
	}
	if list != nil && groupKept {
		if err = setAccessList(to, list); err == nil {
			return lost // the list has the permissions too
		}
		lost = errors.Join(lost, fmt.Errorf("access control list: %w", err))
	}
	if list != nil || !groupKept {
		mode = narrowed(mode)
	}
	if err := to.Chmod(mode); err != nil {
		lost = errors.Join(lost, fmt.Errorf("permissions %v: %w", mode, unwrapPath(err)))
	}
	return lost
}

// narrowed reduces the permissions of the group to those of all others. The
// permissions were meant for another group, or they are the mask of a list and not
// those of a group.
func narrowed(mode fs.FileMode) fs.FileMode { return mode & (0o707 | mode&0o007<<3) }
