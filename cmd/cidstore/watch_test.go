package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// watcher is a stat --watch under way.
type watcher struct {
	cmd      *exec.Cmd
	lines    *bufio.Scanner // of standard output
	messages *bytes.Buffer
}

// next reads one line of JSON.
func (w *watcher) next(ts *testscript.TestScript) (figures map[string]any) {
	if !w.lines.Scan() {
		ts.Fatalf("no more figures: %v %s", w.lines.Err(), w.messages)
	}
	ts.Check(json.Unmarshal(w.lines.Bytes(), &figures))
	return figures
}

// scriptWatch starts stat --watch, and goes on when it has printed figures. In WATCHER is
// the number of its process.
func scriptWatch(ts *testscript.TestScript, args []string) {
	interval := "20ms"
	if len(args) > 1 {
		interval = args[1]
	}
	w := &watcher{cmd: exec.Command("cidstore", "stat", "--json", "--watch="+interval, ts.MkAbs(args[0])), messages: new(bytes.Buffer)}
	out, err := w.cmd.StdoutPipe()
	ts.Check(err)
	w.cmd.Stderr = w.messages
	ts.Check(w.cmd.Start())
	ts.Defer(func() { w.cmd.Process.Kill(); w.cmd.Wait() })
	w.lines = bufio.NewScanner(out)
	w.next(ts)
	ts.Setenv("WATCHER", strconv.Itoa(w.cmd.Process.Pid))
	sceneOf(ts).watcher = w
}

// scriptSees waits until the watcher prints a figure with this value.
func scriptSees(ts *testscript.TestScript, args []string) {
	w := sceneOf(ts).watcher
	for range 500 {
		if fmt.Sprint(w.next(ts)[args[0]]) == args[1] {
			return
		}
	}
	ts.Fatalf("%s never was %s", args[0], args[1])
}

// scriptUnwatch interrupts the watcher, and holds it to its exit code.
func scriptUnwatch(ts *testscript.TestScript, args []string) {
	w := sceneOf(ts).watcher
	ts.Check(w.cmd.Process.Signal(os.Interrupt))
	for w.lines.Scan() {
		if !json.Valid(w.lines.Bytes()) {
			ts.Fatalf("not a line of JSON: %s", w.lines.Bytes())
		}
	}
	if got := codeOf(w.cmd.Wait()); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
	fmt.Fprintf(ts.Stderr(), "%s", w.messages)
}
