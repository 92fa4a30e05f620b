package vfs

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// child runs test again in another process, with arg in the environment, and
// returns the process and the first line that it printed after "child: ".
func child(t *testing.T, test, arg string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), "VFS_TEST_CHILD="+arg)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, line, ok := strings.Cut(lines.Text(), "child: "); ok {
			return cmd, line
		}
	}
	t.Fatal("the child said nothing")
	return nil, ""
}

var testLocks = []Lock{{Whole: true, Exclusive: true}, {Offset: 1 << 62, Length: 1, Exclusive: true}}

func TestKilledProcessLeavesNoLock(t *testing.T) {
	if name := os.Getenv("VFS_TEST_CHILD"); name != "" {
		f := create(t, name)
		for _, l := range testLocks {
			must(t, f.TryLock(l))
		}
		fmt.Println("child: locked")
		time.Sleep(time.Minute) // killed long before
	}
	name := filepath.Join(t.TempDir(), "f")
	f := create(t, name)
	cmd, _ := child(t, t.Name(), name)
	for _, l := range testLocks {
		if err := f.TryLock(l); !errors.Is(err, ErrLockHeld) {
			t.Fatalf("%+v while another process has it: %v", l, err)
		}
	}
	if held, at, err := f.ProbeLock(Lock{Offset: 1 << 61, Length: 1 << 62}); !held || at != 1<<62 || err != nil {
		t.Fatalf("probe: %v %#x %v", held, at, err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // says that it was killed
	for _, l := range testLocks {
		must(t, f.TryLock(l))
	}
}

// The limit of a file's size stands for a full disk, which needs privileges.
func TestNoSpaceIsNamed(t *testing.T) {
	if name := os.Getenv("VFS_TEST_CHILD"); name != "" {
		must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 16, Max: 1 << 16}))
		f := create(t, name)
		fmt.Println("child:", errors.Is(f.Allocate(0, 1<<17), ErrNoSpace),
			errors.Is(f.WriteAt(make([]byte, 1<<17), 0), ErrNoSpace),
			errors.Is(f.WriteSync(make([]byte, 1<<17), 0), ErrNoSpace),
			errors.Is(f.Truncate(1<<17), ErrNoSpace), f.WriteSync(make([]byte, 1<<16), 0))
		return
	}
	if _, line := child(t, t.Name(), filepath.Join(t.TempDir(), "f")); line != "true true true true <nil>" {
		t.Fatalf("past the limit: %s", line)
	}
}

func TestFileSystemNames(t *testing.T) {
	for _, tt := range []struct {
		magic uint32
		want  Info
	}{
		{unix.EXT4_SUPER_MAGIC, Info{FileSystem: "ext4"}},
		{unix.TMPFS_MAGIC, Info{FileSystem: "tmpfs"}},
		{unix.BTRFS_SUPER_MAGIC, Info{FileSystem: "btrfs"}},
		{unix.OVERLAYFS_SUPER_MAGIC, Info{FileSystem: "overlay"}},
		{unix.NFS_SUPER_MAGIC, Info{FileSystem: "nfs", Network: true}},
		{unix.CIFS_SUPER_MAGIC, Info{FileSystem: "cifs", Network: true}},
		{unix.SMB2_SUPER_MAGIC, Info{FileSystem: "smb2", Network: true}},
		{unix.V9FS_MAGIC, Info{FileSystem: "9p", Network: true}},
		{unix.FUSE_SUPER_MAGIC, Info{FileSystem: "fuse", Network: true}}, // of no device that is mounted
		{0x12345678, Info{FileSystem: "unknown (0x12345678)", Network: true}},
	} {
		var got Info
		nameFileSystem(&got, tt.magic)
		if got != tt.want {
			t.Errorf("%#x: %+v, want %+v", tt.magic, got, tt.want)
		}
	}
}

func TestMountTypeOfDevice(t *testing.T) {
	const table = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
35 22 0:52 / /mnt/a\040b rw,nosuid shared:9 master:3 - fuse.sshfs host:/ rw,user_id=0
36 22 8:17 / /mnt/usb rw - fuseblk /dev/sdb1 rw
broken
37 22 8:18 - `
	for dev, want := range map[uint64]string{
		unix.Mkdev(254, 0): "ext4", unix.Mkdev(0, 52): "fuse.sshfs", unix.Mkdev(8, 17): "fuseblk",
		unix.Mkdev(8, 18): "fuse", unix.Mkdev(9, 9): "fuse",
	} {
		if got := mountType([]byte(table), dev); got != want {
			t.Errorf("%d:%d is %q, want %q", unix.Major(dev), unix.Minor(dev), got, want)
		}
	}
}

func TestOpenDoesNotWaitForAPipe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	must(t, unix.Mkfifo(name, 0o600))
	if f, err := OS().OpenFile(name, ReadOnly, 0); err == nil {
		f.Close()
		t.Fatal("opened a pipe as a file")
	}
}

func TestDescriptorsCloseOnExec(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "f")).(*osFile)
	must(t, f.control("fcntl", func(fd uintptr) error {
		flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			t.Error("a child would inherit the file")
		}
		return err
	}))
}

// If the file system does not support WriteSync, it is a write and a sync.
func TestWriteSyncFallsBack(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "f")).(*osFile)
	f.noRangeSync.Store(true)
	must(t, f.WriteSync([]byte("data"), 3))
	var p [4]byte
	if _, err := f.ReadAt(p[:], 3); err != nil || string(p[:]) != "data" {
		t.Fatalf("%q %v", p, err)
	}
}

// The reservation is much larger than file, memory and disk, or takes all of a
// smaller address space.
func TestLargeReservation(t *testing.T) {
	f := create(t, filepath.Join(t.TempDir(), "f"))
	m, err := f.Map(1 << 40)
	must(t, err)
	defer m.Close()
	const size = 100 << 20
	must(t, f.Truncate(size), f.WriteAt([]byte("end"), size-3))
	if v, err := m.View(size-3, 3); err != nil || string(v) != "end" {
		t.Fatalf("%q %v", v, err)
	}
}

// BenchmarkShape is what each group commit pays twice to see that its file was not
// cut.
func BenchmarkShape(b *testing.B) {
	f := create(b, filepath.Join(b.TempDir(), "f"))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := f.Shape(); err != nil {
			b.Fatal(err)
		}
	}
}
