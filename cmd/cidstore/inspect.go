package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/hdf5"
	"github.com/spf13/cobra"
)

func (p *program) inspectCommand() *cobra.Command {
	var verify bool
	c := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Print the tree of any HDF5 file",
		Long: `Inspect prints what is in an HDF5 file, whether cidstore or another program made it:
groups, links and their targets, attributes, and datasets. For each dataset it prints
the shape (and the maximum shape, where * means no limit), type, layout, chunks,
filters, and bytes in the file. Each object is described where inspect first meets it;
other hard links to it name that place. Long texts and lists are cut. For a store,
inspect also prints the commit and the log.

With --verify it reads and unpacks all elements, and says whether each dataset is good
or bad, or was merely read because no checksum is stored with its elements. After a bad
chunk it goes on with the next row of chunks. It does not read texts of variable length,
which are stored elsewhere. A store also has checksums of its own; check verifies those.

Inspect prints damage where it finds it, and goes on. It also counts a file as damaged
if more must be read than any good file needs. Exit codes: 0 done; 1 with --verify: no
damage, but not everything could be verified; 3 damaged, or not an HDF5 file; 5 the
file cannot be read. With --json it prints one object.`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error { return p.inspect(args[0], verify) },
	}
	c.Flags().BoolVar(&verify, "verify", false, "read all elements, and verify the checksums of their chunks")
	return c
}

// damagedError says that a file that is not a store is damaged.
type damagedError struct{ error }

func (e damagedError) Unwrap() error { return e.error }

// inspect prints the tree. If the file is a store, it stays open until then, so that
// the root that is being read is not overwritten.
func (p *program) inspect(path string, verify bool) error {
	i := &inspection{program: p, path: path, verify: verify, seen: make(map[uint64]string)}
	file, size, err := openRegular(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if !hasSlots(file) {
		return i.run(file, size, nil)
	}
	opened := false
	err = p.withStore(path, judging, func(s *cidstore.Store) error {
		opened = true
		return i.run(file, size, p.storeFacts(s))
	})
	if opened {
		return err
	}
	facts := &facts{Problem: oneLine(err), damaged: exitCode(err) == exitCorrupt}
	return i.run(file, size, facts)
}

// openRegular opens a regular file, which can be read at any offset.
func openRegular(path string) (*os.File, int64, error) {
	if err := checkPath(path, making); err != nil {
		return nil, 0, err
	}
	size, err := fileSize(path)
	if err != nil {
		return nil, 0, err
	}
	file, err := os.Open(path)
	return file, size, err
}

// hasSlots reports whether a file looks like a store.
func hasSlots(file io.ReaderAt) bool {
	head := make([]byte, headBytes)
	n, _ := file.ReadAt(head, 0) // hdf5.NewReader meets a failure again
	return bytes.Contains(head[:n], []byte(slotMagic))
}

// facts holds what a store says about its commit slots and its log.
type facts struct {
	Slot           int    `json:"slot"`
	Commit         uint64 `json:"commit"`
	FellBack       bool   `json:"fell_back"`
	Keys           uint64 `json:"keys"`
	Values         uint64 `json:"values"`
	LogBytes       uint64 `json:"log_bytes"`
	ClosedCleanly  bool   `json:"closed_cleanly"`
	PendingBatches int    `json:"pending_batches"`
	TornAt         uint64 `json:"torn_at"`
	Problem        string `json:"problem,omitempty"` // why it cannot be opened as a store, or what damage was skipped
	damaged        bool
}

func (p *program) storeFacts(s *cidstore.Store) *facts {
	r, m := s.Recovery(), s.Metrics()
	f := &facts{Slot: r.Slot, Commit: r.Commit, FellBack: r.FellBack, LogBytes: m.WALBytes,
		ClosedCleanly: r.Clean, PendingBatches: r.FramesReplayed, TornAt: r.TornAt, damaged: r.FellBack}
	figures, err := s.Figures(p.ctx)
	f.Keys, f.Values = figures.Keys, figures.Values
	if err = errors.Join(r.Salvaged, err); err != nil {
		f.Problem, f.damaged = oneLine(err), true
	}
	return f
}

func (f *facts) print(out io.Writer) {
	if f.Problem != "" {
		fmt.Fprintf(out, "store: %s\n", shown(f.Problem))
		if f.Commit == 0 {
			return
		}
	}
	how, torn := "", ""
	if f.FellBack {
		how = " because the newest root is damaged"
	}
	if f.TornAt > 0 {
		torn = fmt.Sprintf(", torn at sequence %d", f.TornAt)
	}
	fmt.Fprintf(out, "store: commit %d in slot %d%s, %d keys, %d values\nlog: %d bytes, closed cleanly: %t, %d pending batches%s\n",
		f.Commit, f.Slot, how, f.Keys, f.Values, f.LogBytes, f.ClosedCleanly, f.PendingBatches, torn)
}

// fileFacts holds what a file says about itself. It begins the JSON object.
type fileFacts struct {
	Path              string `json:"path"`
	Bytes             int64  `json:"bytes"`
	SuperblockVersion int    `json:"superblock_version"`
	UserBlock         int64  `json:"user_block"`
	EndOfFile         int64  `json:"end_of_file"`
	OpenForWriting    bool   `json:"open_for_writing"`
	Store             *facts `json:"store,omitempty"`
}

func (f *fileFacts) print(out io.Writer) {
	text := fmt.Sprintf("%s: HDF5, superblock version %d, %d bytes", shown(f.Path), f.SuperblockVersion, f.Bytes)
	if f.UserBlock > 0 {
		text += fmt.Sprintf(", user block of %d bytes", f.UserBlock)
	}
	if f.EndOfFile != f.Bytes {
		text += fmt.Sprintf(", of which it names %d", f.EndOfFile)
	}
	if f.OpenForWriting {
		text += ", marked as open for writing"
	}
	fmt.Fprintln(out, text)
	if f.Store != nil {
		f.Store.print(out)
	}
}

// outcome is the end of the JSON object.
type outcome struct {
	Damaged     int    `json:"damaged"`      // places
	NotVerified int    `json:"not_verified"` // datasets, with --verify
	Stopped     string `json:"stopped,omitempty"`
}

// run prints the file. It then returns what is wrong, if anything is.
func (i *inspection) run(file io.ReaderAt, size int64, store *facts) error {
	i.meter = newMeter(file, size, allowance(size))
	f, err := hdf5.NewReader(i.meter, size, nil)
	if err != nil {
		return i.refuse(file, err)
	}
	s := f.Superblock()
	head := fileFacts{i.path, size, s.Version, s.UserBlock, s.EndOfFile, f.OpenForWriting(), store}
	if store != nil && store.damaged {
		i.damaged++
	}
	if err := i.begin(&head); err != nil {
		return err
	}
	if err := i.walk(f); err != nil {
		return err
	}
	if err := i.end(); err != nil {
		return err
	}
	return i.judge()
}

// refuse returns the error for a file that cannot be read at all.
func (i *inspection) refuse(file io.ReaderAt, err error) error {
	if errors.Is(err, hdf5.ErrNotHDF5) {
		return damagedError{fmt.Errorf("inspect %s: %w: %s", i.path, hdf5.ErrNotHDF5, looksLike(file))}
	}
	err = fmt.Errorf("inspect %s: %w", i.path, err)
	if errors.Is(err, hdf5.ErrCorrupt) {
		return damagedError{err}
	}
	return err
}

// begin prints what comes before the tree. With --json the object stays open. A failed
// write fails again in print and end.
func (i *inspection) begin(head *fileFacts) error {
	if !i.json {
		head.print(i.out)
		return nil
	}
	text, err := json.Marshal(head)
	if err != nil {
		return err
	}
	_, err = i.out.Write(append(bytes.TrimSuffix(text, []byte("}")), `,"objects":[`...))
	return err
}

// end prints what comes after the tree.
func (i *inspection) end() error {
	o := outcome{i.damaged, i.notVerified, i.stopped}
	if !i.json {
		if o.Stopped != "" {
			fmt.Fprintf(i.out, "stopped: %s\n", o.Stopped)
		}
		return nil
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(i.out, "],%s\n", bytes.TrimPrefix(text, []byte("{")))
	return err
}

// judge returns the error of the command, from what the walk found.
func (i *inspection) judge() error {
	switch {
	case i.unread != nil:
		return fmt.Errorf("inspect %s: %w", i.path, i.unread)
	case i.damaged == 1:
		return damagedError{fmt.Errorf("inspect %s: one place is damaged", i.path)}
	case i.damaged > 1:
		return damagedError{fmt.Errorf("inspect %s: %d places are damaged", i.path, i.damaged)}
	case i.notVerified > 0:
		i.note("%s could not be verified", counted(i.notVerified, "dataset"))
		return errNegative
	}
	return nil
}
