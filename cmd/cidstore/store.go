package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// maxKeyBytes bounds the file of --wal-key-file. A longer one must be the wrong file.
const maxKeyBytes = 64 << 10

// access says what a command does with the store.
type access int

const (
	reading   access = iota // the file must exist, and is not changed
	salvaging               // the same, and what is damaged, cut off or edited is skipped
	judging                 // the same, but the command reports the damage itself
	changing                // the file must exist
	making                  // the file is created if it is absent or empty
)

// readingOr returns salvaging if it is asked for, and reading otherwise.
func readingOr(salvage bool) access {
	if salvage {
		return salvaging
	}
	return reading
}

// salvageFlag adds the flag --salvage to a command that reads.
func salvageFlag(c *cobra.Command, salvage *bool) {
	c.Flags().BoolVar(salvage, "salvage", false, "read what is left of a store that is damaged, cut short, or edited by another program")
}

// withStore opens the store at path, with options that tune may change, does the work, and
// closes it.
func (p *program) withStore(path string, how access, work func(*cidstore.Store) error, tune ...func(*cidstore.Options)) error {
	options, err := p.options()
	if err != nil {
		return err
	}
	for _, change := range tune {
		change(options)
	}
	options.ReadOnly = how <= judging
	options.Salvage = how == salvaging || how == judging
	s, err := p.openStore(path, how, options)
	if err != nil {
		return openError{err}
	}
	if damage := s.Recovery().Salvaged; damage != nil && how == salvaging {
		p.note("note: read past: %s", oneLine(damage))
	}
	err = work(s)
	if closeErr := s.Close(); closeErr != nil {
		// The failure of Close replaces err, because it matters more.
		err = fmt.Errorf("close %s: %w", path, closeErr)
	}
	return err
}

// openError is the error of opening STORE.
type openError struct{ error }

func (e openError) Unwrap() error { return e.error }

// openStore waits for the lock of the store as long as --wait says, or until a signal ends
// the program.
func (p *program) openStore(path string, how access, options *cidstore.Options) (*cidstore.Store, error) {
	if err := checkPath(path, how); err != nil {
		return nil, err
	}
	options.LockTimeout = p.wait
	s, err := unlessStopped(p.ctx, func() (*cidstore.Store, error) { return cidstore.Open(path, options) })
	return s, explained("open", path, err)
}

// defaultWait is long enough for short commands to take turns.
const defaultWait = 2 * time.Second

// noStoreError says in plain words what a file is that is no store. It replaces errors
// about missing parts of a store.
type noStoreError string

func (e noStoreError) Error() string { return "no CIDStore store: " + string(e) }
func (e noStoreError) Unwrap() error { return cidstore.ErrNotCIDStore }

const (
	errForeign = noStoreError("an HDF5 file that cidstore did not make")
	errNotHDF5 = noStoreError("it is not an HDF5 file")
	errEmpty   = noStoreError("it is empty")
)

// Where a file has its commit slots, and how they begin.
const (
	slotBytes = 4 << 10
	headBytes = 3 * slotBytes // the superblock and both slots
	slotMagic = "CIDSLOT1"
)

// incrementMagic begins an increment of a backup, which may have a commit slot in it.
const incrementMagic = "CIDINCR1"

const errIncrement = noStoreError("it is an increment of a backup; restore makes a store of its full backup and of it, and restore --verify says whether both are good")

// adviceError is a noStoreError of which the text says what to do.
type adviceError struct{ error }

func (e adviceError) Unwrap() error { return e.error }

// isNone reports whether an error says that a file is no store, complete or not, of any
// form.
func isNone(err error) bool {
	return errors.Is(err, cidstore.ErrNotCIDStore) && !errors.Is(err, cidstore.ErrHalfMade) && !errors.Is(err, cidstore.ErrLegacy)
}

// explained returns the error of an action, such as "open", on the file at path. If that
// file is no store, the error says what it is instead.
func explained(action, path string, err error) error {
	if what := judgeHead(path, err); what != nil {
		return fmt.Errorf("%s %s: %w", action, path, what)
	}
	return err
}

// judgeHead returns a noStoreError if Open refused the file at path with err because it has
// nothing of a store where that must be, and nil otherwise.
func judgeHead(path string, err error) error {
	if !isNone(err) {
		return nil
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil // opening a pipe would wait for its other end
	}
	head, err := readStart(path, headBytes)
	at := int64(bytes.Index(head, []byte(slotMagic)))
	switch {
	case err == nil && bytes.HasPrefix(head, []byte(incrementMagic)):
		return adviceError{errIncrement}
	case err != nil, at > 0 && at%slotBytes == 0:
		return nil
	case at >= 0:
		return cutInFront(head, at)
	case bytes.HasPrefix(head, []byte("\x89HDF\r\n\x1a\n")):
		return errForeign
	}
	return errNotHDF5
}

// cutInFront describes a file whose first commit slot that is left begins at a place where
// none belongs.
func cutInFront(head []byte, at int64) error {
	missing := 2*slotBytes - at
	if bytes.HasPrefix(head[min(at+slotBytes, int64(len(head))):], []byte(slotMagic)) {
		missing -= slotBytes // both are left
	}
	what := fmt.Sprintf("its first %d bytes are missing; put as many zeros in front, for example by head -c %d /dev/zero | cat - FILE > NEW", missing, missing)
	if missing < 0 {
		what = fmt.Sprintf("%d bytes stand before it; remove them, for example by tail -c +%d FILE > NEW", -missing, 1-missing)
	}
	return adviceError{noStoreError(what)}
}

// noteOpening prints problems that did not prevent opening the store for reading.
func (p *program) noteOpening(r cidstore.RecoveryReport) {
	if r.FellBack {
		p.note("note: the newest root is damaged; the one of commit %d is read instead", r.Commit)
	}
	if r.TornAt > 0 {
		p.note("note: the log is torn at sequence %d; %d complete records from there on belong to no complete batch and are left out", r.TornAt, r.TornRecords)
	}
}

// options returns the options that the flags ask for. The program scrubs on request only.
func (p *program) options() (*cidstore.Options, error) {
	key, err := p.walKey()
	return &cidstore.Options{WALKey: key, AllowUnsafeFS: p.allowUnsafeFS, ScrubInterval: -1, Logger: slog.New(notes{p})}, err
}

// errNotRegular refuses a device or a pipe.
var errNotRegular = errors.New("not a regular file")

// checkPath refuses what Open would turn into a store, or would explain less well.
func checkPath(path string, how access) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && how == making:
		return nil // Open judges the folder
	case err != nil:
		return &os.PathError{Op: "open", Path: path, Err: errors.Unwrap(err)}
	case info.IsDir():
		return &os.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	case !info.Mode().IsRegular():
		return &os.PathError{Op: "open", Path: path, Err: errNotRegular}
	case info.Size() == 0 && how != making:
		return fmt.Errorf("open %s: %w", path, errEmpty)
	}
	return nil
}

// walKey returns the secret in the file of --wal-key-file, or nil without that flag.
func (p *program) walKey() ([]byte, error) {
	if p.keyFile == "" {
		return nil, nil
	}
	key, err := unlessStopped(p.ctx, func() ([]byte, error) { return readStart(p.keyFile, maxKeyBytes+1) })
	switch {
	case err != nil:
		return nil, fmt.Errorf("--wal-key-file: %w", err)
	case len(key) == 0:
		return nil, usageError{fmt.Errorf("--wal-key-file: %s is empty", p.keyFile)}
	case len(key) > maxKeyBytes:
		return nil, usageError{fmt.Errorf("--wal-key-file: %s has more than %d bytes", p.keyFile, maxKeyBytes)}
	}
	return key, nil
}

// readStart returns the first bytes of a file, at most as many as most says.
func readStart(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, most))
}

// notes prints the warnings of the store as notes. Its errors are returned by its calls.
type notes struct{ p *program }

func (n notes) Enabled(_ context.Context, level slog.Level) bool { return level == slog.LevelWarn }

func (n notes) Handle(_ context.Context, r slog.Record) error {
	var path string
	what := r.Message
	r.Attrs(func(a slog.Attr) bool {
		switch v := a.Value.Any().(type) {
		case string:
			path = v
		case error:
			what += ": " + oneLine(v)
		}
		return true
	})
	n.p.note("note: %s: %s", path, what)
	return nil
}

func (n notes) WithAttrs([]slog.Attr) slog.Handler { return n }

func (n notes) WithGroup(string) slog.Handler { return n }
