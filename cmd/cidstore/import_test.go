package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cidstore/cidstore"
)

func has(t *testing.T, s *cidstore.Store, key string) bool {
	t.Helper()
	n, err := s.Count(cidstore.FromString(key))
	must(t, err)
	return n > 0
}

// TestSignalStoresWhatIsRead: a signal while the input pauses stores the whole records
// that have come, of each format, and not the one that is under way.
func TestSignalStoresWhatIsRead(t *testing.T) {
	for name, test := range map[string]struct{ whole, part string }{
		"TSV":  {"a\t1\nb\t2\n", "c\t3"},
		"CSV":  {"a,1\nb,2\n", "c,\"3\n"},
		"JSON": {`{"key":"a","values":["1"]}` + "\n" + `{"key":"b","values":["2",` + "\n", `"3`},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			in, out := io.Pipe()
			defer out.Close()
			s, err := cidstore.Open(filepath.Join(t.TempDir(), "s.h5"), nil)
			must(t, err)
			defer s.Close()
			i := &importer{program: &program{ctx: ctx, quiet: true, messages: os.Stderr}, patience: time.Hour,
				reader: pairReader{files: []string{standard}, stdin: in, columns: columns{1, 2}}}
			ended := make(chan error, 1)
			i.start()
			go func() { ended <- i.load(s, nil, -1) }()
			// The reader asks for more only when it is done with what it has.
			for _, text := range []string{test.whole, test.part, " "} {
				_, err := io.WriteString(out, text)
				must(t, err)
			}
			if has(t, s, "a") {
				t.Error("a batch that is not full was stored before the time")
			}
			cancel(stoppedError{syscall.SIGTERM})
			if err := <-ended; !errors.Is(err, stoppedError{syscall.SIGTERM}) {
				t.Errorf("ended by %v", err)
			}
			if i.pairs != 2 || !has(t, s, "a") || !has(t, s, "b") || has(t, s, "c") {
				t.Errorf("%d pairs, want a and b", i.pairs)
			}
		})
	}
}

// TestIntakeKeepsOrder: a portion under way is not taken before a whole one that is
// older, and one of another file begins after it.
func TestIntakeKeepsOrder(t *testing.T) {
	q := newIntake()
	for _, step := range []struct {
		file  string
		whole bool
	}{{"a", false}, {"a", true}, {"b", false}} {
		q.update(step.file, func(p *portion) { p.records++; p.whole = step.whole })
	}
	if p := q.take(time.Hour); p == nil || p.file != "a" || p.records != 2 {
		t.Fatalf("%+v, want both records of a", p)
	}
	if p := q.take(time.Hour); p != nil {
		t.Fatalf("%+v was taken before its time", p)
	}
	q.stop()
	if q.update("b", func(*portion) {}) {
		t.Error("something was added after the end")
	}
	if p := q.take(0); p == nil || p.file != "b" {
		t.Errorf("%+v, want the portion under way", p)
	}
	if p := q.take(0); p != nil {
		t.Errorf("%+v, want nothing", p)
	}
}

// TestRejectedTextsAreBounded: a portion ends where it would keep too many texts.
func TestRejectedTextsAreBounded(t *testing.T) {
	r := pairReader{files: []string{standard}, keepTexts: true, columns: columns{1, 2}, to: newIntake()}
	r.stdin = strings.NewReader(strings.Repeat(strings.Repeat("x", maxLine-1)+"\n", 20))
	go r.run()
	var rejected int64
	for last := false; !last; {
		<-r.to.changed
		for p := r.to.take(time.Hour); p != nil; p = r.to.take(time.Hour) {
			if p.textBytes > batchTexts+maxLine {
				t.Errorf("%d bytes kept", p.textBytes)
			}
			rejected, last = rejected+p.rejected, p.last
		}
	}
	if rejected != 20 {
		t.Errorf("%d records rejected, want 20", rejected)
	}
}

// TestImportLosesStore: an import whose store loses its name, or is emptied as HDF5
// programs do, says how many pairs it had stored there.
func TestImportLosesStore(t *testing.T) {
	for name, lose := range map[string]func(path string) error{
		"removed": os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.h5")
			in, out := io.Pipe()
			p := &program{ctx: t.Context(), in: in, out: bufio.NewWriter(io.Discard), messages: os.Stderr, quiet: true}
			i := &importer{program: p, patience: time.Hour, reader: pairReader{stdin: in, columns: columns{1, 2}}}
			ended := make(chan error, 1)
			go func() {
				ended <- i.run(path, []string{standard})
				in.Close()
			}()
			send := func(batches int) (err error) {
				for n := 0; n < batches*batchPairs && err == nil; n++ {
					_, err = fmt.Fprintf(out, "%d\t%d\n", n, batches)
				}
				return err
			}
			// More than what is read ahead: so some of them are stored.
			must(t, send(waitingPortions+4))
			if err := lose(path); err != nil {
				t.Skip(err) // some systems keep a file that is open
			}
			_ = send(waitingPortions + 4) // fails when the import has ended
			out.Close()
			err := <-ended
			if err == nil || i.pairs == 0 || !strings.HasSuffix(err.Error(), "; "+grouped(i.pairs)+" pairs had been stored in the file that is lost") {
				t.Errorf("%d pairs stored, %v", i.pairs, err)
			}
			if code := exitCode(err); code != exitIO && code != exitCorrupt {
				t.Errorf("exit code %d", code)
			}
		})
	}
}
