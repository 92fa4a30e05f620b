package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/cidstore/cidstore/internal/invariants"
)

// openTerminal returns the two ends of a pseudo-terminal.
func openTerminal(t *testing.T, columns uint16) (control, terminal *os.File) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { control.Close() })
	fd := int(control.Fd())
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, err)
	must(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: columns}))
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { terminal.Close() })
	return control, terminal
}

// onTerminal runs cidstore with standard error on a terminal, and returns what it showed
// there.
func onTerminal(t *testing.T, columns uint16, stdin io.Reader, args ...string) (shown, stdout string) {
	t.Helper()
	control, terminal := openTerminal(t, columns)
	var out bytes.Buffer
	cmd := exec.Command("cidstore", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, terminal
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(control) // ends with EIO when the terminal is closed
		read <- string(text)
	}()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	terminal.Close()
	return <-read, out.String()
}

// slowly delivers text in parts with pauses, so that a bar is seen to move.
type slowly struct{ parts [][]byte }

func (s *slowly) Read(p []byte) (int, error) {
	if len(s.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.parts[0])
	if s.parts[0] = s.parts[0][n:]; len(s.parts[0]) == 0 {
		s.parts = s.parts[1:]
		time.Sleep(150 * time.Millisecond)
	}
	return n, nil
}

func TestBarOnTerminal(t *testing.T) {
	const pairs, wide = 400_000 / invariants.Sparse, 120
	dir := t.TempDir()
	file := filepath.Join(dir, "pairs.tsv")
	must(t, os.WriteFile(file, numbers(0, pairs), 0o666))
	want := regexp.MustCompile(`[0-9,]+ pairs, [0-9,]+ pairs/s +[0-9]+% +\|.*\|.*\[[0-9]+s:[0-9a-z]+\]`)
	shown, stdout := onTerminal(t, wide, nil, "import", filepath.Join(dir, "a.h5"), file)
	if !want.MatchString(shown) {
		t.Errorf("no bar with pairs, their rate and the time left:\n%q", shown)
	}
	if stdout != fmt.Sprintf("%d pairs read, %[1]d new, 0 rejected\n", pairs) {
		t.Errorf("result %q", stdout)
	}

	spinner := regexp.MustCompile(`[1-9][0-9,]+ pairs, [0-9,]+ pairs/s`)
	slow := &slowly{[][]byte{numbers(0, 5000), numbers(5000, 10000), numbers(10000, 15000)}}
	if shown, _ = onTerminal(t, wide, slow, "import", filepath.Join(dir, "b.h5"), "-"); !spinner.MatchString(shown) {
		t.Errorf("no spinner with pairs and their rate:\n%q", shown)
	}

	const copying, nothing = `copy +[0-9]+% +\|.*\|`, `^$`
	store, copied := filepath.Join(dir, "a.h5"), filepath.Join(dir, "full.h5")
	for _, test := range []struct {
		want string
		args []string
	}{
		{copying, []string{"backup", store, copied}},
		{copying, []string{"backup", store, filepath.Join(dir, "increment"), "--since", copied}},
		{copying, []string{"restore", copied, filepath.Join(dir, "new.h5")}},
		{`verify +[0-9]+% +\|.*\|`, []string{"restore", "--verify", copied}},
		{`^.*a\.h5: [0-9]+ bytes, about [0-9]+ when shrunk\r\n.*move +[0-9]+% +\|.*\|`, []string{"shrink", store}},
		{nothing, []string{"shrink", "--quiet", store}},
		{nothing, []string{"import", "--quiet", filepath.Join(dir, "c.h5"), file}},
		{nothing, []string{"backup", "--quiet", store, filepath.Join(dir, "quiet.h5")}},
	} {
		if shown, _ := onTerminal(t, wide, nil, test.args...); !regexp.MustCompile(test.want).MatchString(shown) {
			t.Errorf("%v shows %q, want %s", test.args, shown, test.want)
		}
	}
}

// TestBarDoesNotWrap: whatever the terminal's width is, no line that is drawn is wider.
func TestBarDoesNotWrap(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pairs.tsv")
	must(t, os.WriteFile(file, numbers(0, 40_000/invariants.Sparse), 0o666))
	control := regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")
	for _, columns := range []uint16{20, uint16(leastColumns) - 1, uint16(leastColumns), 61} {
		in := func(name string) string { return filepath.Join(dir, fmt.Sprint(columns, name)) }
		slow := &slowly{[][]byte{numbers(0, 5000), numbers(5000, 10000)}}
		bars := ""
		for _, args := range [][]string{
			{"import", in("a.h5"), file}, {"import", in("b.h5"), "-"}, {"backup", in("a.h5"), in("full.h5")},
			{"restore", in("full.h5"), in("c.h5")}, {"restore", "--verify", in("full.h5")},
		} {
			shown, _ := onTerminal(t, columns, slow, args...)
			for line := range strings.FieldsFuncSeq(control.ReplaceAllString(shown, ""), func(r rune) bool { return r == '\r' || r == '\n' }) {
				if n := utf8.RuneCountInString(line); n > int(columns) {
					t.Errorf("%s: %d columns in a terminal of %d: %q", args[0], n, columns, line)
				}
			}
			bars += shown
		}
		if wide := int(columns) >= leastColumns; wide != (bars != "") {
			t.Errorf("%d columns: bars are shown: %t", columns, bars != "")
		}
	}
}

// TestBackupToTerminal: a backup does not go to a terminal, which would obey what is in it.
func TestBackupToTerminal(t *testing.T) {
	store := filepath.Join(t.TempDir(), "s.h5")
	runs(t, "put", store, "dog", "puppy")
	_, terminal := openTerminal(t, 80)
	var messages bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // to write would wait for whoever reads the terminal
	defer cancel()
	cmd := exec.CommandContext(ctx, "cidstore", "backup", store, "-")
	cmd.Stdout, cmd.Stderr = terminal, &messages
	err := cmd.Run()
	const want = "cidstore: backup: standard output is a terminal; send it to a file or a program; see cidstore backup --help\n"
	if got := codeOf(err); got != exitUsage || messages.String() != want {
		t.Errorf("exit code %d, %q", got, messages.String())
	}
}

// TestInputFromTerminal: at a terminal the program says what it wants, and Ctrl-D
// ends the input.
func TestInputFromTerminal(t *testing.T) {
	control, terminal := openTerminal(t, 80)
	_, err := control.WriteString("dog\tpuppy\n\x04")
	must(t, err)
	var out, messages bytes.Buffer
	cmd := exec.Command("cidstore", "import", filepath.Join(t.TempDir(), "s.h5"), "-")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, &out, &messages
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, messages.String())
	}
	if got, want := messages.String(), "type pairs, KEY TAB VALUE, one a line; Ctrl-D on an empty line ends them\n"; got != want {
		t.Errorf("messages %q, want %q", got, want)
	}
	if got, want := out.String(), "1 pairs read, 1 new, 0 rejected\n"; got != want {
		t.Errorf("result %q, want %q", got, want)
	}
}
