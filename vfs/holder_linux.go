package vfs

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lockHolder asks /proc. Byte range locks have no process there. A whole-file lock
// has the process that took it, which may have ended, and its number may belong to
// another process now. So every process that is named for the file is looked at:
// the lock must be on one of its descriptors.
func lockHolder(info Info, l Lock, likely int) int {
	table, _ := os.ReadFile("/proc/locks")
	for _, pid := range append([]int{likely}, lockPIDs(table, info.Inode)...) {
		if pid > 0 && holdsLock(pid, info, l) {
			return pid
		}
	}
	return 0
}

// lockPIDs lists the processes that /proc/locks names for an inode of this number,
// on any device, because some file systems have other device numbers there than in
// stat.
func lockPIDs(table []byte, inode uint64) (pids []int) {
	for line := range bytes.Lines(table) {
		k, ok := parseLock(string(line))
		if ok && k.pid > 0 && k.inode == inode {
			pids = append(pids, k.pid)
		}
	}
	return pids
}

// kernelLock is one line of /proc/locks, or of /proc/PID/fdinfo/FD after "lock:".
type kernelLock struct {
	kind       string // FLOCK, OFDLCK, POSIX, …
	exclusive  bool
	pid        int // -1: an open file's
	inode      uint64
	start, end int64 // the last byte
}

// parseLock reads "1: FLOCK  ADVISORY  WRITE 6859 fe:00:9977877 0 EOF". Locks that
// are only waited for, marked by an arrow, do not count.
func parseLock(line string) (k kernelLock, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 8 {
		return k, false
	}
	k.kind, k.exclusive = fields[1], fields[3] == "WRITE"
	var errs [4]error
	k.pid, errs[0] = strconv.Atoi(fields[4])
	k.inode, errs[1] = strconv.ParseUint(fields[5][strings.LastIndexByte(fields[5], ':')+1:], 10, 64)
	k.start, errs[2] = strconv.ParseInt(fields[6], 10, 64)
	if k.end = 1<<63 - 1; fields[7] != "EOF" {
		k.end, errs[3] = strconv.ParseInt(fields[7], 10, 64)
	}
	return k, errs == [4]error{}
}

// conflicts reports whether k keeps others from taking l.
func (k *kernelLock) conflicts(l Lock) bool {
	switch {
	case !k.exclusive && !l.Exclusive:
		return false
	case l.Whole:
		return k.kind == "FLOCK"
	}
	return (k.kind == "OFDLCK" || k.kind == "POSIX") && k.start < l.Offset+l.Length && k.end >= l.Offset
}

// holdsLock reports whether a process has a descriptor of the file with a lock that
// conflicts with l. Kernels before 4.1 do not say.
func holdsLock(pid int, info Info, l Lock) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	descriptors, err := os.ReadDir(dir + "/fd")
	if err != nil { // it has ended, or belongs to another user, or there is no /proc
		return false
	}
	for _, fd := range descriptors {
		st, err := os.Stat(dir + "/fd/" + fd.Name())
		if err != nil {
			continue
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok || uint64(sys.Dev) != info.Device || sys.Ino != info.Inode {
			continue
		}
		text, err := os.ReadFile(dir + "/fdinfo/" + fd.Name())
		if err == nil && hasConflict(text, l) {
			return true
		}
	}
	return false
}

func hasConflict(fdinfo []byte, l Lock) bool {
	for line := range bytes.Lines(fdinfo) {
		if rest, ok := bytes.CutPrefix(line, []byte("lock:")); ok {
			if k, ok := parseLock(string(rest)); ok && k.conflicts(l) {
				return true
			}
		}
	}
	return false
}
