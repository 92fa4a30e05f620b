package oracle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// recorder is a testing.TB that remembers how a test would have ended.
type recorder struct {
	testing.TB
	verdict, text string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) { r.end("fatal", format, args...) }

func (r *recorder) Skipf(format string, args ...any) { r.end("skip", format, args...) }

func (r *recorder) end(verdict, format string, args ...any) {
	r.verdict, r.text = verdict, fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// verdictOf runs ask as a test would.
func verdictOf(t *testing.T, ask func(testing.TB)) *recorder {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask(r)
	}()
	<-done
	return r
}

func TestMissingOracle(t *testing.T) {
	asks := map[string]func(testing.TB){
		"program": func(t testing.TB) { program(t, "no-such-oracle") },
		"module":  func(t testing.TB) { Python(t, "no_such_oracle") },
	}
	for require, want := range map[string]string{"": "skip", "0": "skip", "1": "fatal"} {
		t.Setenv(requireVariable, require)
		for name, ask := range asks {
			r := verdictOf(t, ask)
			if r.verdict != want || !strings.Contains(r.text, "oracle") || strings.Contains(r.text, "\n") {
				t.Errorf("%s=%q, missing %s: %q %q, want %s and one line", requireVariable, require, name, r.verdict, r.text, want)
			}
		}
	}
}

func TestRunReportsOutputsAndExitCode(t *testing.T) {
	exe := self(t)
	t.Setenv("ORACLE_TEST_CHILD", "fail")
	out, errout, err := Run(t, time.Minute, exe)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || out != "to stdout" || errout != "to stderr" {
		t.Errorf("Run = %q, %q, %v; want both outputs and code 3", out, errout, err)
	}
	t.Setenv("ORACLE_TEST_CHILD", "pass")
	if out, errout, err := Run(t, time.Minute, exe); out != "to stdout" || errout != "to stderr" || err != nil {
		t.Errorf("Run = %q, %q, %v; want both outputs and no error", out, errout, err)
	}
}

func TestRunEndsAtItsTimeLimit(t *testing.T) {
	t.Setenv("ORACLE_TEST_CHILD", "hang")
	start := time.Now()
	_, _, err := Run(t, 100*time.Millisecond, self(t))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 30*time.Second {
		t.Errorf("Run of a program that hangs: %v after %s", err, time.Since(start))
	}
}

func self(t *testing.T) string {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// TestMain makes the test binary act as the program that the tests above run.
func TestMain(m *testing.M) {
	switch os.Getenv("ORACLE_TEST_CHILD") {
	case "":
		os.Exit(m.Run())
	case "hang":
		time.Sleep(time.Minute)
	case "fail":
		defer os.Exit(3)
		fallthrough
	case "pass":
		fmt.Fprint(os.Stdout, "to stdout")
		fmt.Fprint(os.Stderr, "to stderr")
	}
}

// TestOracles shows that the programs that are found work, on one file that h5py
// writes.
func TestOracles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.h5")
	python := H5py(t)
	if _, errout, err := Run(t, time.Minute, python, "-c",
		"import h5py, sys; h5py.File(sys.argv[1], 'w')['answer'] = [42]", file); err != nil {
		t.Fatalf("%v: %s", err, errout)
	}
	for name, find := range map[string]func(testing.TB) string{
		"h5dump": H5dump, "h5stat": H5stat, "h5ls": H5ls, "h5diff": H5diff, "h5repack": H5repack,
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{file}
			switch name {
			case "h5diff":
				args = append(args, file)
			case "h5repack":
				args = append(args, file+".copy")
			}
			out, errout, err := Run(t, time.Minute, find(t), args...)
			if err != nil {
				t.Fatalf("%v: %s", err, errout)
			}
			if name == "h5dump" && !strings.Contains(out, "42") {
				t.Errorf("h5dump does not show the value:\n%s", out)
			}
		})
	}
	t.Run("h5wasm", func(t *testing.T) {
		node, module := H5wasm(t)
		script := `const h5 = await import(process.argv[1]); await h5.ready;
			console.log(new h5.File(process.argv[2], "r").get("answer").value.toString())`
		out, errout, err := Run(t, time.Minute, node, "--input-type=module", "-e", script, module, file)
		if err != nil || strings.TrimSpace(out) != "42" {
			t.Errorf("h5wasm reads %q, %v, want 42: %s", out, err, errout)
		}
	})
}

func TestQemu(t *testing.T) {
	for _, arch := range []string{"s390x", "arm"} {
		t.Run(arch, func(t *testing.T) {
			out, errout, err := Run(t, time.Minute, Qemu(t, arch), "--version")
			if err != nil || !strings.Contains(out, "qemu-"+arch) {
				t.Errorf("%q, %v: %s", out, err, errout)
			}
		})
	}
}
