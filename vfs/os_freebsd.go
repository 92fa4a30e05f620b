package vfs

import "golang.org/x/sys/unix"

const mapNoReserve = 0 // reservations of files cost nothing on this system

func datasync(fd uintptr) error {
	return retry(func() error { return unix.Fsync(int(fd)) })
}
