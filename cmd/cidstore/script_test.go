package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cidstore": main})
}

// TestScripts runs testdata/script, one behaviour a script. An empty script would pass.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join("testdata", "script", "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range scripts {
		if text, err := os.ReadFile(name); err != nil || !bytes.Contains(text, []byte("cidstore")) {
			t.Errorf("%s runs nothing: %v", name, err)
		}
	}
	// Under nohup the programs of the scripts would ignore SIGHUP too. What handles it does
	// not pass that on.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[sceneKey{}] = &scene{figures: make(map[string]map[string]any)}
			env.Setenv("GORACE", os.Getenv("GORACE")) // options of the race detector
			return findSamples(env)
		},
		Condition: func(condition string) (bool, error) {
			if condition == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", condition)
		},
		Cmds: commands(),
	})
}

// scene is what the commands of a script share.
type scene struct {
	holder  *holder
	watcher *watcher
	figures map[string]map[string]any
}

type sceneKey struct{}

func sceneOf(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

// usages are the commands of the scripts, by how they are used.
var usages = map[string]func(ts *testscript.TestScript, args []string){
	"cut FILE [N]":                     scriptCut,
	"damage FILE NAME":                 scriptDamage,
	"end INPUT|HUP|INT|TERM|KILL CODE": scriptEnd,
	"exits CODE PROGRAM ARG…":          scriptExits,
	"figures NAME":                     scriptFigures,
	"flip FILE TEXT":                   scriptFlip,
	"foreign FILE":                     scriptForeign,
	"golden FOLDER NAME":               scriptGolden,
	"hold STORE [PAIRS]":               scriptHold,
	"holds EXPECTED [256|ids]":         scriptHolds,
	"killed STORE FILE BATCHES":        scriptKilled,
	"lacks WHOLE PART NAME…":           scriptLacks,
	"long FILE N":                      scriptLong,
	"near NAME FIGURE NAME FIGURE":     scriptNear,
	"numbers FILE N":                   scriptNumbers,
	"same NAME NAME N":                 scriptSame,
	"sees FIGURE VALUE":                scriptSees,
	"unwatch CODE":                     scriptUnwatch,
	"watch STORE [INTERVAL]":           scriptWatch,
	"write FILE TEXT":                  scriptWrite,
	// Makes a store one of the next format version: in the record of both
	// commit slots, with a good checksum (docs/FORMAT.md, sections 2 and 3).
	"newer FILE": forging(func(data []byte) {
		for _, slot := range [][]byte{data[4096:8192], data[8192:12288]} {
			version := slot[192:196]
			binary.LittleEndian.PutUint32(version, binary.LittleEndian.Uint32(version)+1)
			seal(slot)
		}
	}),
	// Damages both commit slots.
	"unslot FILE": forging(func(data []byte) {
		data[4096+200] ^= 1
		data[8192+200] ^= 1
	}),
	// Makes the newest root one that does not validate: in its commit
	// slot, with a good checksum, the one of the free map is wrong.
	"rootless FILE": forging(func(data []byte) {
		newest, other := data[4096:8192], data[8192:12288]
		if binary.LittleEndian.Uint64(other[32:]) > binary.LittleEndian.Uint64(newest[32:]) {
			newest = other
		}
		newest[120] ^= 1
		seal(newest)
	}),
	// Writes the first mark of a restore in place (docs/CRASH.md, section 6).
	"halfmade FILE": forging(func(data []byte) {
		mark := data[:512]
		clear(mark)
		copy(mark, "CIDHALF1\x02")
		binary.LittleEndian.PutUint16(mark[10:], uint16(copy(mark[12:], "/backups/dog.h5")))
		binary.LittleEndian.PutUint32(mark[508:], crc32.Checksum(mark[:508], crc32.MakeTable(crc32.Castagnoli)))
	}),
}

// forging returns a command that changes a store (docs/FORMAT.md, sections 2 and 3).
func forging(change func(data []byte)) func(*testscript.TestScript, []string) {
	return func(ts *testscript.TestScript, args []string) {
		edit(ts, args[0], func(data []byte) int { change(data); return 1 })
	}
}

// commands returns the commands of the scripts by their names. One that lacks an argument ends
// the script; arguments in brackets, and of any number, may be missing.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	cmds := make(map[string]func(*testscript.TestScript, bool, []string))
	for usage, do := range usages {
		name, words, _ := strings.Cut(usage, " ")
		words, _, _ = strings.Cut(words, " [")
		least := strings.Count(words, " ") + 1 - strings.Count(words, "…")
		cmds[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg || len(args) < least {
				ts.Fatalf("usage: %s", usage)
			}
			do(ts, args)
		}
	}
	return cmds
}

// scriptExits runs a program and holds it to its exit code.
func scriptExits(ts *testscript.TestScript, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	if got := codeOf(err); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s: %v", got, args[0], err)
	}
}

// codeOf is the exit code, or -1 if a signal ended the process or it did not run.
func codeOf(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// scriptWrite writes text with the escapes of Go, so that scripts can hold any byte.
func scriptWrite(ts *testscript.TestScript, args []string) {
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o666))
}

// scriptNumbers writes N distinct pairs.
func scriptNumbers(ts *testscript.TestScript, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), numbers(0, n), 0o666))
}

func numbers(from, to int) []byte {
	var text bytes.Buffer
	for i := from; i < to; i++ {
		fmt.Fprintf(&text, "key %d\tvalue %d\n", i/3, i)
	}
	return text.Bytes()
}

// scriptLong writes a line of N bytes between two good ones.
func scriptLong(ts *testscript.TestScript, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	text := "a\t1\nlong\t" + strings.Repeat("x", n-len("long\t")) + "\nb\t2\n"
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o666))
}

// scriptCut cuts N bytes off the end of a file, or half of it.
func scriptCut(ts *testscript.TestScript, args []string) {
	size, err := fileSize(ts.MkAbs(args[0]))
	ts.Check(err)
	left := size / 2
	if len(args) > 1 {
		n, err := strconv.ParseInt(args[1], 10, 64)
		ts.Check(err)
		left = size - n
	}
	ts.Check(os.Truncate(ts.MkAbs(args[0]), left))
}

// scriptDamage flips a bit in every copy that the file has of an identifier.
func scriptDamage(ts *testscript.TestScript, args []string) {
	id := cidstore.ParseKey(args[1]).AppendHDF5(nil)
	edit(ts, args[0], func(data []byte) int {
		count := 0
		for at := 0; ; count++ {
			next := bytes.Index(data[at:], id)
			if next < 0 {
				return count
			}
			at += next
			data[at] ^= 1
		}
	})
}

// scriptFlip flips a bit of the one place of a file that has some bytes, given with
// the escapes of Go.
func scriptFlip(ts *testscript.TestScript, args []string) {
	text, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	edit(ts, args[0], func(data []byte) int {
		if bytes.Count(data, []byte(text)) != 1 {
			return 0
		}
		data[bytes.Index(data, []byte(text))] ^= 1
		return 1
	})
}

// scriptLacks wants PART to be the lines of WHOLE without those of the keys NAME.
func scriptLacks(ts *testscript.TestScript, args []string) {
	var want strings.Builder
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if key, _, _ := strings.Cut(line, "\t"); !slices.ContainsFunc(args[2:], func(name string) bool { return cidstore.ParseKey(name).String() == key }) {
			want.WriteString(line)
		}
	}
	if got := ts.ReadFile(args[1]); got != want.String() {
		ts.Fatalf("%d lines, want %d, all but those of %q", strings.Count(got, "\n"), strings.Count(want.String(), "\n"), args[2:])
	}
}

// scriptFigures keeps the JSON object on standard output under a name.
func scriptFigures(ts *testscript.TestScript, args []string) {
	var object map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &object))
	sceneOf(ts).figures[args[0]] = object
}

// scriptSame wants the figures that two commands both gave to be N or more, and the same.
func scriptSame(ts *testscript.TestScript, args []string) {
	all := sceneOf(ts).figures
	shared := 0
	for name, a := range all[args[0]] {
		b, both := all[args[1]][name]
		if both && a != b {
			ts.Fatalf("%s: %v says %s, %v says %s", name, a, args[0], b, args[1])
		}
		if both {
			shared++
		}
	}
	if least, err := strconv.Atoi(args[2]); err != nil || shared < least {
		ts.Fatalf("%d figures in both, want %s", shared, args[2])
	}
}

// scriptNear holds two figures against each other: a tenth and 256 KiB apart at most.
func scriptNear(ts *testscript.TestScript, args []string) {
	all := sceneOf(ts).figures
	a, ok1 := all[args[0]][args[1]].(float64)
	b, ok2 := all[args[2]][args[3]].(float64)
	if !ok1 || !ok2 || math.Abs(a-b) > b/10+256<<10 {
		ts.Fatalf("%s of %s is %v, %s of %s is %v", args[1], args[0], a, args[3], args[2], b)
	}
}

// edit changes a file; the change says in how many places.
func edit(ts *testscript.TestScript, name string, change func([]byte) int) {
	path := ts.MkAbs(name)
	data, err := os.ReadFile(path)
	ts.Check(err)
	if change(data) == 0 {
		ts.Fatalf("nothing to change in %s", name)
	}
	ts.Check(os.WriteFile(path, data, 0o666))
}

// seal gives a commit slot its checksum.
func seal(slot []byte) {
	sum := crc32.Checksum(slot[:4092], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(slot[4092:], sum)
}

// scriptForeign writes a file that begins as HDF5 does, and has nothing else.
func scriptForeign(ts *testscript.TestScript, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append([]byte("\x89HDF\r\n\x1a\n"), make([]byte, 20000)...), 0o666))
}

// acknowledged is a line of import --progress-json.
type acknowledged struct {
	Line  int
	Pairs int
}

// holder is an import that has stored all it was given and waits for more input.
type holder struct {
	cmd      *exec.Cmd
	input    io.WriteCloser
	out      *bytes.Buffer
	messages io.Reader // what of standard error is not yet read
}

// scriptHold starts an import from a pipe that stays open, waits until all of its
// pairs are acknowledged, one batch or as many as are asked for, and sets $HOLDER to the process.
func scriptHold(ts *testscript.TestScript, args []string) {
	pairs := batchPairs
	if len(args) > 1 {
		var err error
		pairs, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	h := &holder{cmd: exec.Command("cidstore", "import", "--progress-json", ts.MkAbs(args[0]), "-"), out: new(bytes.Buffer)}
	var err error
	h.input, err = h.cmd.StdinPipe()
	ts.Check(err)
	progress, err := h.cmd.StderrPipe()
	ts.Check(err)
	h.cmd.Stdout = h.out
	ts.Check(h.cmd.Start())
	ts.Defer(func() { h.input.Close(); h.cmd.Process.Kill(); h.cmd.Wait() })
	_, err = h.input.Write(numbers(0, pairs))
	ts.Check(err)
	messages := bufio.NewReader(progress)
	h.messages = messages
	for stored := 0; stored < pairs; {
		line, err := messages.ReadBytes('\n')
		ts.Check(err)
		var a acknowledged
		ts.Check(json.Unmarshal(line, &a))
		stored = a.Pairs
	}
	ts.Setenv("HOLDER", strconv.Itoa(h.cmd.Process.Pid))
	sceneOf(ts).holder = h
}

// scriptEnd ends what hold started, by a signal or by ten more pairs and the end of its input, and
// holds it to its exit code; -1 for a kill.
func scriptEnd(ts *testscript.TestScript, args []string) {
	h := sceneOf(ts).holder
	signals := map[string]os.Signal{"HUP": syscall.SIGHUP, "INT": os.Interrupt, "TERM": syscall.SIGTERM, "KILL": os.Kill}
	if args[0] == "INPUT" {
		_, err := h.input.Write(numbers(batchPairs, batchPairs+10))
		ts.Check(err)
		ts.Check(h.input.Close())
	} else {
		ts.Check(h.cmd.Process.Signal(signals[args[0]]))
	}
	messages, err := io.ReadAll(h.messages)
	ts.Check(err)
	if got := codeOf(h.cmd.Wait()); strconv.Itoa(got) != args[1] {
		ts.Fatalf("exit code %d, want %s", got, args[1])
	}
	fmt.Fprint(ts.Stdout(), h.out)
	fmt.Fprintf(ts.Stderr(), "%s", messages)
}

// scriptKilled imports FILE, kills the import with SIGKILL when it has acknowledged
// some batches, and compares the store with the file: every acknowledged line is
// there, and what else is there is the one batch that was under way, whole.
func scriptKilled(ts *testscript.TestScript, args []string) {
	store, file := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	batches, err := strconv.Atoi(args[2])
	ts.Check(err)
	known := 0 // lines of the store that earlier imports have left
	if _, err := os.Stat(store); err == nil {
		known = len(readStore(ts, store))
	}
	safe := max(killImport(ts, store, file, batches), known)

	lines := strings.Split(strings.TrimSuffix(ts.ReadFile(file), "\n"), "\n")
	present := readStore(ts, store)
	under := 0 // lines of the store after the acknowledged ones
	for i, line := range lines {
		key, value, _ := strings.Cut(line, "\t")
		there := present[[2]cidstore.E{cidstore.ParseKey(key), cidstore.ParseKey(value)}]
		switch {
		case i < safe && !there:
			ts.Fatalf("line %d was acknowledged and is lost", i+1)
		case i >= safe && there && under != i-safe:
			ts.Fatalf("line %d is there and line %d is not", i+1, safe+under+1)
		case i >= safe && there:
			under++
		}
	}
	if under > batchPairs {
		ts.Fatalf("%d lines of the batch under way are there, want at most %d", under, batchPairs)
	}
	ts.Logf("killed after %d acknowledged lines; %d more are there", safe, under)
}

// killImport returns how many lines were acknowledged. The input of the import stays open, so
// that it does not end before it is killed.
func killImport(ts *testscript.TestScript, store, name string, batches int) (lines int) {
	file, err := os.Open(name)
	ts.Check(err)
	defer file.Close()
	cmd := exec.Command("cidstore", "import", "--progress-json", store, "-")
	input, err := cmd.StdinPipe()
	ts.Check(err)
	progress, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	go io.Copy(input, file) // fails when the import is dead
	for acks := json.NewDecoder(progress); ; batches-- {
		if batches == 0 {
			ts.Check(cmd.Process.Kill())
		}
		var a acknowledged
		if err := acks.Decode(&a); err != nil {
			break // the pipe ends with the process
		}
		lines = a.Line
	}
	if err := cmd.Wait(); err == nil || codeOf(err) != -1 {
		ts.Fatalf("the import ended before it was killed: %v", err)
	}
	return lines
}

func readStore(ts *testscript.TestScript, path string) map[[2]cidstore.E]bool {
	s, err := cidstore.Open(path, &cidstore.Options{ReadOnly: true})
	ts.Check(err)
	defer s.Close()
	view, err := s.Snapshot()
	ts.Check(err)
	defer view.Close()
	pairs := make(map[[2]cidstore.E]bool)
	for key, value := range view.All() {
		pairs[[2]cidstore.E{key, value}] = true
	}
	ts.Check(view.Err())
	return pairs
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

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

// findSamples shows scripts where the files of the Python package are, which belong to
// package hdf5, where package legacy has what they hold, and where golden files
// and the tables are.
func findSamples(env *testscript.Env) error {
	for variable, dir := range map[string]string{"SAMPLES": "hdf5/testdata", "EXPECTED": "legacy/testdata", "GOLDEN": "testdata/golden", "TABLES": "cmd/cidstore/testdata/tables.h5"} {
		path, err := filepath.Abs(filepath.Join("..", "..", filepath.FromSlash(dir)))
		if err != nil {
			return err
		}
		env.Setenv(variable, path)
	}
	return nil
}

// scriptGolden unpacks a golden file into NAME.h5, and what it holds into NAME.tsv.
func scriptGolden(ts *testscript.TestScript, args []string) {
	for _, name := range []string{args[1] + ".h5", args[1] + ".tsv"} {
		packed, err := os.Open(filepath.Join(ts.Getenv("GOLDEN"), args[0], name+".gz"))
		ts.Check(err)
		defer packed.Close()
		r, err := gzip.NewReader(packed)
		ts.Check(err)
		content, err := io.ReadAll(r)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(name), content, 0o666))
	}
}

// scriptHolds wants the pairs on standard output, where export has printed them, to be
// those of a file: names of keys with numbers; names of both, of 256 bits; or both as
// they are printed.
func scriptHolds(ts *testscript.TestScript, args []string) {
	want := make(map[string]bool)
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if len(args) > 1 && args[1] == "ids" {
			want[key+"\t"+value] = true
			continue
		}
		if len(args) > 1 {
			want[digest(key)+"\t"+digest(value)] = true
			continue
		}
		number, err := strconv.ParseUint(value, 10, 64)
		ts.Check(err)
		want[fmt.Sprintf("%s\t%s", cidstore.FromString(key), cidstore.FromUint64(number))] = true
	}
	got := strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\n"), "\n")
	slices.Sort(got)
	if wanted := slices.Sorted(maps.Keys(want)); !slices.Equal(got, wanted) {
		ts.Fatalf("%d pairs, want %d, or others", len(got), len(wanted))
	}
}

// digest is the first half of the SHA-256 of a name.
func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}
