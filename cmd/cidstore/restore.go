package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// verified is the answer of restore --verify.
type verified struct {
	Verdict string   `json:"verdict"`
	Backups []string `json:"backups"`
}

func (p *program) restoreCommand() *cobra.Command {
	var verify bool
	c := &cobra.Command{
		Use:   "restore COPY [INCREMENT…] STORE",
		Short: "Replace a store by its backup, or make one from a backup",
		Long: `Restore copies the backup to a temporary file next to STORE, replays its log, and
verifies all of it. Only then does the file get the name STORE and replace the file that
had it. If the backup is bad, or if another process has STORE open for writing, STORE is
left alone; so is a file that is neither a store nor empty. The new file keeps the owner,
the group and the permissions of the old one, or of the backup if there was none; a note
says which it could not keep.

COPY is a full backup. After it come the increments since then, in the order in which
they were made: STORE becomes what it was at the last of them. If increments do not
follow each other, or are damaged, STORE is left alone.

The COPY - is standard input: a full backup, without increments. It is read to its end
and verified before it gets the name STORE. If it ends too early, or if bytes follow it,
STORE is left alone.

With --verify nothing is restored, and STORE is not given: COPY and the increments are
read, and restore says whether they are good.

It may be that no new file can get the name STORE, because STORE is a mount point or
its folder does not take new files. Then the backup is verified first and written into
STORE itself. If that is interrupted, STORE is marked as half made: run the same
command again.`,
		Args: func(c *cobra.Command, args []string) error {
			if verify {
				return arguments(1, many)(c, args)
			}
			return arguments(2, many)(c, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if verify {
				return p.verifyBackups(args)
			}
			last := len(args) - 1
			return p.restore(args[:last], args[last])
		},
	}
	c.Flags().BoolVar(&verify, "verify", false, "restore nothing; say whether COPY and the increments are good")
	p.progressFlag(c)
	return c
}

// errStreams says where standard input cannot be read.
var errStreams = usageError{errors.New("restore: standard input must be one full backup; increments and --verify need files")}

// verifyBackups says whether a full backup and its increments are good.
func (p *program) verifyBackups(backups []string) error {
	if slices.Contains(backups, standard) {
		return errStreams
	}
	err := p.readBackups(backups, "verify", func(options *cidstore.Options, update func(done, total int64)) error {
		return cidstore.VerifyBackup(p.ctx, backups, options, update)
	})
	if err != nil {
		return err
	}
	return p.result(verified{"ok", backups}, "ok: %d files", len(backups))
}

// restore makes store from a full backup and its increments.
func (p *program) restore(backups []string, store string) error {
	switch {
	case store == standard:
		return usageError{errors.New("restore: STORE must be a file; only COPY can be -, for standard input")}
	case slices.Contains(backups, standard) && len(backups) > 1:
		return errStreams
	case backups[0] == standard:
		return p.restoreStream(store)
	}
	err := p.readBackups(backups, "copy", func(options *cidstore.Options, update func(done, total int64)) error {
		return cidstore.RestoreSeries(p.ctx, backups, store, options, update)
	})
	if err != nil {
		return err
	}
	return p.reportCopy("restored", store)
}

// readBackups calls read, and shows its progress as that of what. Of a file that is no
// backup the error says what it is.
func (p *program) readBackups(backups []string, what string, read func(options *cidstore.Options, update func(done, total int64)) error) error {
	for _, path := range backups {
		if err := checkPath(path, reading); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	options, err := p.options()
	if err != nil {
		return err
	}
	shown := p.progress(what)
	err = read(options, shown.update)
	shown.finish()
	if len(backups) > 1 && errors.Is(err, cidstore.ErrCorrupt) {
		return seriesError{err}
	}
	return explained("restore", backups[0], err)
}

// seriesError is what is wrong with a file of a full backup and its increments. Check and
// repair, which other classes advise, are for stores.
type seriesError struct{ error }

func (e seriesError) Unwrap() error { return e.error }

// restoreStream restores a backup from standard input.
func (p *program) restoreStream(store string) error {
	options, err := p.options()
	if err != nil {
		return err
	}
	shown := p.progress("copy")
	err = cidstore.RestoreFrom(p.ctx, newInterruptible(p.ctx, p.in), store, options, shown.update)
	shown.finish()
	if isNone(err) {
		err = fmt.Errorf("restore to %s: %w", store, noStoreError("what came is no backup"))
	}
	if isBad(err) {
		return streamError{err}
	}
	if err != nil {
		return err
	}
	return p.reportCopy("restored", store)
}

// streamError is what is wrong with a backup that came through standard input. The advice
// of other classes is for files.
type streamError struct{ error }

func (e streamError) Unwrap() error { return e.error }

// isBad reports whether an error says that a backup is damaged or none.
func isBad(err error) bool {
	return isAny(err, cidstore.ErrTruncated, cidstore.ErrCorrupt, cidstore.ErrTampered, cidstore.ErrNotCIDStore)
}
