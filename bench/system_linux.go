package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// cpuTime returns the seconds of CPU that this process has used.
func cpuTime() float64 {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return math.NaN()
	}
	return float64(r.Utime.Sec+r.Stime.Sec) + float64(r.Utime.Usec+r.Stime.Usec)/1e6
}

// ownMemory returns the bytes of memory that this process has and that are not pages of
// files.
func ownMemory() float64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, kib, _ := strings.Cut(string(text), "\nRssAnon:")
	return 1024 * numberIn(kib, 0)
}

// numberIn returns a word of a text as a number; NaN if it is none, or not there.
func numberIn(text string, word int) float64 {
	words := strings.Fields(text)
	if word >= len(words) {
		return math.NaN()
	}
	n, err := strconv.ParseFloat(words[word], 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

// syncDisks writes back what every process has left in the page cache.
func syncDisks() { syscall.Sync() }

// deviceWritten returns the bytes that the block device under dir has written so
// far, the journal of the file system and other processes included; NaN if the file
// system has no device of its own. (/proc/self/io would count only one process, but
// it counts a change of 64 bytes in a large folio as a write of the complete
// folio.)
func deviceWritten(dir string) float64 {
	var stat syscall.Stat_t
	if syscall.Stat(dir, &stat) != nil {
		return math.NaN()
	}
	device := uint64(stat.Dev)
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	text, _ := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", major, minor))
	return 512 * numberIn(string(text), 6) // sectors
}

// inMemory reports whether the file system of dir has no disk, so that a sync does
// nothing.
func inMemory(dir string) bool {
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	var stat syscall.Statfs_t
	return syscall.Statfs(dir, &stat) == nil && (uint32(stat.Type) == tmpfs || uint32(stat.Type) == ramfs)
}

// processor returns the name of the CPU, or nothing.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo") // without it there is no name
	_, rest, _ := bytes.Cut(text, []byte("model name\t: "))
	name, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(name)
}
