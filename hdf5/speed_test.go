//go:build linux

package hdf5

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cidstore/cidstore/internal/oracle"
)

// BenchmarkBesideH5py does the same with this package and with h5py, one after another, and
// reports how many times h5py's time this package's fits into, the median of all
// turns: of processor time as ×cpu, of elapsed time as ×time. Above 1 this package is
// faster. The number in a name is GOMAXPROCS; h5py uses one core.
//
//	CIDSTORE_SPEED_MIB=1024 go test -run '^$' -bench BesideH5py -benchtime 5x ./hdf5
//
// The datasets have CIDSTORE_SPEED_MIB mebibytes, 256 by default. h5py writes them
// at first use, into a folder beside other temporary files, where they stay.
func BenchmarkBesideH5py(b *testing.B) {
	peer := startPeer(b)
	for _, task := range []struct {
		name  string
		files []string
		run   func(*testing.B, *File, *[]byte)
	}{
		{"array", []string{"plain", "tiles", "gzip", "shuffle", "doubles"}, readArray},
		{"blocks", []string{"plain", "tiles", "gzip", "shuffle", "doubles"}, readBlocks},
		{"names", []string{"table", "dense"}, readNames},
		{"opened", []string{"table", "dense"}, openLinks},
	} {
		for _, file := range task.files {
			for _, procs := range []int{1, 2} {
				b.Run(fmt.Sprintf("%s/%s/%d", task.name, file, procs), func(b *testing.B) {
					defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
					beside(b, peer, task.name, file, task.run)
				})
			}
		}
	}
}

// beside lets both take turns, and does not count the first.
func beside(b *testing.B, peer *peer, task, name string, run func(*testing.B, *File, *[]byte)) {
	var buffer []byte
	turn := func() (cpu, elapsed float64) {
		peerElapsed, peerCPU := peer.ask(b, task, name)
		runtime.GC()
		began, used := time.Now(), processorTime(b)
		f, err := Open(filepath.Join(peer.dir, name+".h5"), nil)
		must(b, err)
		run(b, f, &buffer)
		cpu, elapsed = processorTime(b)-used, time.Since(began).Seconds()
		must(b, f.Close())
		return peerCPU / cpu, peerElapsed / elapsed
	}
	turn()
	var cpu, elapsed []float64
	for b.Loop() {
		c, e := turn()
		cpu, elapsed = append(cpu, c), append(elapsed, e)
	}
	b.ReportMetric(0, "ns/op") // of both sides: of no meaning
	b.ReportMetric(median(cpu), "×cpu")
	b.ReportMetric(median(elapsed), "×time")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// processorTime is what this process has used of the processors, in seconds.
func processorTime(b *testing.B) float64 {
	var usage unix.Rusage
	must(b, unix.Getrusage(unix.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// peer is a Python process that does what it is asked with h5py.
type peer struct {
	dir     string
	tasks   io.Writer
	answers *bufio.Scanner
}

// startPeer has h5py write the files, if they are not there, and wait for tasks.
func startPeer(b *testing.B) *peer {
	python := oracle.H5py(b)
	size := 256
	if text := os.Getenv("CIDSTORE_SPEED_MIB"); text != "" {
		var err error
		size, err = strconv.Atoi(text)
		must(b, err)
	}
	p := &peer{dir: filepath.Join(os.TempDir(), fmt.Sprintf("cidstore-hdf5-speed-%d", size))}
	script := filepath.Join("testdata", "speed.py")
	if _, err := os.Stat(p.dir); err != nil {
		made := p.dir + ".new"
		must(b, os.MkdirAll(made, 0o777))
		if _, errout, err := oracle.Run(b, 20*time.Minute, python, script, "make", made, strconv.Itoa(size)); err != nil {
			b.Fatalf("%v: %s", err, errout)
		}
		must(b, os.Rename(made, p.dir))
	}
	command := exec.Command(python, script, "serve", p.dir)
	command.Stderr = os.Stderr
	tasks, err := command.StdinPipe()
	must(b, err)
	answers, err := command.StdoutPipe()
	must(b, err)
	must(b, command.Start())
	b.Cleanup(func() {
		if err := tasks.Close(); err != nil {
			b.Error(err)
		}
		if err := command.Wait(); err != nil {
			b.Error(err)
		}
	})
	p.tasks, p.answers = tasks, bufio.NewScanner(answers)
	return p
}

// ask has a task done, and returns its seconds.
func (p *peer) ask(b *testing.B, task, file string) (elapsed, cpu float64) {
	if _, err := fmt.Fprintln(p.tasks, task, file); err != nil {
		b.Fatal(err)
	}
	if !p.answers.Scan() {
		b.Fatalf("h5py ended: %v", p.answers.Err())
	}
	if _, err := fmt.Sscan(p.answers.Text(), &elapsed, &cpu); err != nil {
		b.Fatal(err)
	}
	return elapsed, cpu
}

// readArray reads the whole dataset into memory that is there already: in huge pages,
// if there are, as numpy asks for them.
func readArray(b *testing.B, f *File, buffer *[]byte) {
	d := objectAt[*Dataset](b, f, "d")
	if size := d.Len() * d.RowSize(); uint64(len(*buffer)) != size {
		p, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		must(b, err)
		_ = unix.Madvise(p, unix.MADV_HUGEPAGE) // a kernel without them
		*buffer = p
		b.Cleanup(func() { _ = unix.Munmap(p) })
	}
	must(b, d.ReadRows(*buffer, 0, d.Len()))
}

// readBlocks reads the dataset block by block.
func readBlocks(b *testing.B, f *File, _ *[]byte) {
	d := objectAt[*Dataset](b, f, "d")
	for _, err := range d.Rows(0, d.Len()) {
		must(b, err)
	}
}

const speedLinks = 20000

func readNames(b *testing.B, f *File, _ *[]byte) {
	n := 0
	for _, err := range objectAt[*Group](b, f, "g").Links() {
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
	if n != speedLinks {
		b.Fatalf("%d links", n)
	}
}

func openLinks(b *testing.B, f *File, _ *[]byte) {
	g := objectAt[*Group](b, f, "g")
	for i := range speedLinks {
		if _, err := g.Open(fmt.Sprintf("link %d", i)); err != nil {
			b.Fatal(err)
		}
	}
}
