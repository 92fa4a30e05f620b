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

// maxKeyBytes bounds the file of --wal-key-file: a longer one is some other file.
const maxKeyBytes = 64 << 10

// access is what a command does with the store.
type access int

const (
	reading   access = iota // the file must be there; not a byte of it changes
	salvaging               // the same, and what is damaged, cut off or edited is read past
	judging                 // the same, by a command that reports it itself
	changing                // the file must be there
	making                  // the file is made if it is absent or empty
)

// readingOr is salvaging if that is asked for.
func readingOr(salvage bool) access {
	if salvage {
		return salvaging
	}
	return reading
}

// salvageFlag gives a command that reads the flag for it.
func salvageFlag(c *cobra.Command, salvage *bool) {
	c.Flags().BoolVar(salvage, "salvage", false, "read what is left of a store that is damaged, cut short, or edited by another program")
}

// withStore opens the store at path, does the work, and closes it.
func (p *program) withStore(path string, how access, work func(*cidstore.Store) error) error {
	return p.withStoreAs(path, how, func(*cidstore.Options) {}, work)
}

// withStoreAs is withStore with other options.
func (p *program) withStoreAs(path string, how access, tune func(*cidstore.Options), work func(*cidstore.Store) error) error {
	options, err := p.options()
	if err != nil {
		return err
	}
	tune(options)
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
		// Said first, because it is the graver one; a negative answer is none.
		err = fmt.Errorf("close %s: %w", path, closeErr)
	}
	return err
}

// openError is a failure to open STORE.
type openError struct{ error }

func (e openError) Unwrap() error { return e.error }

func (p *program) openStore(path string, how access, options *cidstore.Options) (*cidstore.Store, error) {
	if err := checkPath(path, how); err != nil {
		return nil, err
	}
	s, err := p.openWhenFree(path, options)
	switch what := judgeHead(path, err); {
	case what == errForeign, what == errNotHDF5 && how != judging: // which shows what is where the slots should be
		err = fmt.Errorf("open %s: %w", path, what)
	}
	return s, err
}

// defaultWait is what short commands need to get past each other.
const defaultWait = 2 * time.Second

// stopPatience is how long a signal leaves an Open under way to end by itself.
const stopPatience = 100 * time.Millisecond

// openWhenFree opens the store, and waits for its lock as long as --wait says, or
// until a signal ends the program.
func (p *program) openWhenFree(path string, options *cidstore.Options) (*cidstore.Store, error) {
	options.LockTimeout = p.wait
	type opened struct {
		store *cidstore.Store
		err   error
	}
	result := make(chan opened, 1)
	go func() {
		s, err := cidstore.Open(path, options)
		result <- opened{s, err}
	}()
	select {
	case o := <-result:
		return o.store, o.err
	case <-p.stopped:
	}
	// An Open that no longer waits is as good as done; one that does ends with the program.
	select {
	case o := <-result:
		return o.store, o.err
	case <-time.After(stopPatience):
		return nil, context.Canceled
	}
}

// errForeign is said of an HDF5 file with nothing of a store in it, and errNotHDF5 of
// any other file with nothing of a store, in place of what a store would have there.
var (
	errForeign = fmt.Errorf("%w: an HDF5 file that cidstore did not make, it has no commit slot", cidstore.ErrNotCIDStore)
	errNotHDF5 = fmt.Errorf("%w: it is no HDF5 file", cidstore.ErrNotCIDStore)
)

// headBytes are the superblock and both commit slots.
const headBytes = 12 << 10

// judgeHead returns which of these is wrong with the file at path, which the store has
// refused with err; nil if neither is.
func judgeHead(path string, err error) error {
	if !errors.Is(err, cidstore.ErrNotCIDStore) || errors.Is(err, cidstore.ErrHalfMade) || errors.Is(err, cidstore.ErrLegacy) {
		return nil
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return nil // opening a pipe would wait for its other end
	}
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	head, err := io.ReadAll(io.LimitReader(file, headBytes))
	switch {
	case err != nil, bytes.Contains(head, []byte("CIDSLOT")):
		return nil
	case bytes.HasPrefix(head, []byte("\x89HDF\r\n\x1a\n")):
		return errForeign
	}
	return errNotHDF5
}

// noteOpening prints what opening the store for reading could live with.
func (p *program) noteOpening(r cidstore.RecoveryReport) {
	if r.FellBack {
		p.note("note: the newest root is damaged; the one of commit %d is read in its place", r.Commit)
	}
	if r.TornAt > 0 {
		p.note("note: the log is torn at sequence %d; %d whole records from there on are of no whole batch and are left out", r.TornAt, r.TornRecords)
	}
}

// options of every opening, as the flags have them. The program scrubs on request alone.
func (p *program) options() (*cidstore.Options, error) {
	key, err := p.walKey()
	return &cidstore.Options{WALKey: key, AllowUnsafeFS: p.allowUnsafeFS, ScrubInterval: -1, Logger: slog.New(notes{p})}, err
}

// checkPath refuses what Open would make a store of, or explain less well.
func checkPath(path string, how access) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && how == making:
		return nil // Open says what it thinks of the folder
	case err != nil:
		return &os.PathError{Op: "open", Path: path, Err: errors.Unwrap(err)}
	case info.IsDir():
		return &os.PathError{Op: "open", Path: path, Err: syscall.EISDIR}
	case info.Size() == 0 && info.Mode().IsRegular() && how != making:
		return fmt.Errorf("open %s: %w: it is empty", path, cidstore.ErrNotCIDStore)
	}
	return nil
}

// walKey reads the secret of --wal-key-file; nil if none was given.
func (p *program) walKey() ([]byte, error) {
	if p.keyFile == "" {
		return nil, nil
	}
	file, err := os.Open(p.keyFile)
	if err != nil {
		return nil, fmt.Errorf("--wal-key-file: %w", err)
	}
	defer file.Close()
	key, err := io.ReadAll(io.LimitReader(file, maxKeyBytes+1))
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
