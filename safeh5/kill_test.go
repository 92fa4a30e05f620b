package safeh5

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cidstore/cidstore/internal/oracle"
)

const childVariable = "CIDSTORE_SAFEH5_CHILD" // path of the file

// TestKillChild is the process that is killed; alone it does nothing.
func TestKillChild(t *testing.T) {
	path := os.Getenv(childVariable)
	if path == "" {
		t.Skip("a part of TestKill")
	}
	f := mustGet(Open(path, small()))(t)
	n := mustGet(stepOf(f))(t)
	fmt.Printf("open %d\n", n)
	for ; ; n++ {
		fmt.Printf("begin %d\n", n+1)
		must(t, stepTo(f, n, n+1))
		fmt.Printf("acked %d\n", n+1)
	}
}

// h5pyProgram is a program of testdata under way, which is asked line by line.
type h5pyProgram struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
}

func startReader(t *testing.T) *h5pyProgram { t.Helper(); return startH5py(t, "reader.py") }

func startH5py(t *testing.T, name string) *h5pyProgram {
	t.Helper()
	cmd := exec.Command(oracle.H5py(t), filepath.Join("testdata", name))
	in := mustGet(cmd.StdinPipe())(t)
	out := mustGet(cmd.StdoutPipe())(t)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	watchdog := time.AfterFunc(10*time.Minute, func() { _ = cmd.Process.Kill() }) // it hangs
	t.Cleanup(func() {
		watchdog.Stop()
		_ = in.Close()
		wantErr(t, cmd.Wait(), nil)
	})
	return &h5pyProgram{t, in, bufio.NewScanner(out)}
}

// ask sends one command and returns the answer.
func (r *h5pyProgram) ask(command string) string {
	r.t.Helper()
	must(r.t, errOf(fmt.Fprintln(r.in, command)))
	if !r.out.Scan() {
		r.t.Fatalf("%s: h5py has ended: %v", command, r.out.Err())
	}
	return r.out.Text()
}

// killed runs a program that says what it acknowledges, kills it, and returns the last step that it
// acknowledged and the last that it began; -1: none. It is an error if the program ends by itself.
func killed(t *testing.T, r *rand.Rand, cmd *exec.Cmd) (acked, begun int, err error) {
	t.Helper()
	out := mustGet(cmd.StdoutPipe())(t)
	var errout strings.Builder
	cmd.Stderr = &errout
	must(t, cmd.Start())
	acked, begun, _ = heard(r, bufio.NewScanner(out), cmd.Process)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		return acked, begun, fmt.Errorf("it was not killed: %v\n%s", err, errout.String())
	}
	return acked, begun, nil
}

// heard reads what a process says of its steps, and kills it a moment after some lines. It reads
// to the end, or to a line "ended" with an exit code.
func heard(r *rand.Rand, lines *bufio.Scanner, process *os.Process) (acked, begun, code int) {
	least, moment := 1+r.IntN(30), time.Duration(r.IntN(3000))*time.Microsecond
	acked, begun = -1, -1
	for seen := 0; lines.Scan(); {
		word, n := "", 0
		if _, err := fmt.Sscan(lines.Text(), &word, &n); err != nil {
			continue
		}
		switch word {
		case "open":
			acked, begun = n, n
		case "begin":
			begun = n
		case "acked":
			acked = n
		case "ended":
			return acked, begun, n
		}
		if seen++; seen == least { // the rest of what it says is read too
			time.AfterFunc(moment, func() { _ = process.Kill() })
		}
	}
	return acked, begun, 0
}

// TestKill kills a writer of one file again and again: h5py opens the file each time, with all
// that was acknowledged, and so does the next writer.
func TestKill(t *testing.T) {
	kills := 3
	if campaign() {
		kills = 300
	}
	reader := startReader(t)
	path := filepath.Join(t.TempDir(), "a.h5")
	r := rand.New(rand.NewPCG(1, 2))
	steps := 0
	for i := range kills {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
		cmd.Env = append(os.Environ(), childVariable+"="+path)
		acked, begun, err := killed(t, r, cmd)
		must(t, err)
		answer := reader.ask("check " + path)
		n := -1
		if _, err := fmt.Sscanf(answer, "step %d", &n); err != nil || n < acked || n > max(begun, 0) {
			t.Fatalf("kill %d: %d acknowledged, %d begun, h5py says %q", i, acked, begun, answer)
		}
		steps = n
		if steps > 400 { // h5py compares all of them each time
			must(t, os.Remove(path))
		}
	}
	t.Logf("%d kills: the file was opened by h5py, and whole, %d times; %d steps in the last", kills, kills, steps)
}

// TestKillH5py kills the same program written with h5py, and counts how often its file was
// lost. It compares nothing: it is for the record.
func TestKillH5py(t *testing.T) {
	if !campaign() {
		t.Skip("for the record; CIDSTORE_CAMPAIGN=1 runs it")
	}
	reader := startReader(t)
	writer := startH5py(t, "writer.py")
	path := filepath.Join(t.TempDir(), "a.h5")
	r := rand.New(rand.NewPCG(1, 2))
	unreadable, incomplete, stuck := 0, 0, 0
	const kills = 300
	for range kills {
		var child int
		must(t, errOf(fmt.Sscanf(writer.ask(path), "child %d", &child)))
		process := mustGet(os.FindProcess(child))(t)
		acked, _, code := heard(r, writer.out, process)
		answer := reader.ask(fmt.Sprintf("kept %d %s", max(acked, 0), path))
		switch {
		case strings.Contains(answer, "AssertionError"):
			incomplete++
		case strings.HasPrefix(answer, "failed"):
			unreadable++
		case code != -int(syscall.SIGKILL): // h5py reads the file, and cannot write to it any more
			stuck++
		case acked < 400:
			continue
		}
		must(t, os.Remove(path))
	}
	t.Logf("h5py: %d kills: %d times the file could not be opened or read, %d times flushed steps were missing, %d times it could not be written to again",
		kills, unreadable, incomplete, stuck)
}

// TestForeignReaderBesideWriter: h5py opens the file after every Update and reads all of it, and a
// file that it holds open stays what it was for as many Updates as the options say.
func TestForeignReaderBesideWriter(t *testing.T) {
	reader, holder := startReader(t), startReader(t) // one process shares what it opens twice
	path := filepath.Join(t.TempDir(), "a.h5")
	o := small()
	o.KeepUpdates = 8
	f := mustGet(Open(path, o))(t)
	ask := func(r *h5pyProgram, command string, want int) {
		t.Helper()
		if answer := r.ask(command); answer != fmt.Sprintf("step %d", want) {
			t.Fatalf("%s: %s, want step %d", command, answer, want)
		}
	}
	for n := 1; n <= 30; n++ {
		must(t, stepTo(f, n-1, n))
		ask(reader, "check "+path, n)
		switch n % 10 {
		case 1:
			ask(holder, "hold "+path, n)
		case 9:
			ask(holder, "held", n-8)
		}
	}
	must(t, f.Close())
}
