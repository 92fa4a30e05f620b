package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// verified is what restore --verify answers.
type verified struct {
	Verdict string   `json:"verdict"`
	Backups []string `json:"backups"`
}

func (p *program) restoreCommand() *cobra.Command {
	var verify, asJSON bool
	c := &cobra.Command{
		Use:   "restore COPY [INCREMENT…] STORE",
		Short: "Make a store from a backup, in place of the one that is there",
		Long: `Restore copies the backup to a temporary file next to STORE, replays its log,
verifies all of it, and only then gives it the name of STORE, in place of the file
that was there. A bad backup leaves STORE alone, and so does a STORE that another
process has open for writing. The owner, the group and the permissions of that file,
or else of the backup, are kept; a note says which could not be.

After COPY, a full backup, come the increments since then, in the order in which
they were made: STORE is as it was at the last of them. Increments that do not
follow each other, or are damaged, leave STORE alone.

The COPY - is standard input: a full backup, without increments. It is read to its end
and verified before it gets the name of STORE; one that ends too early leaves STORE alone.

With --verify nothing is restored, and STORE is not named: COPY and the increments
are read, and are good or not.

Where no file can get the name of STORE, because it is mounted by itself or its
folder takes no new file, the backup is verified first and then written into STORE.
If that is interrupted STORE says that it is half made; run the same again.`,
		Args: func(c *cobra.Command, args []string) error {
			if verify {
				return arguments(1, many)(c, args)
			}
			return arguments(2, many)(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			backups, store := args, ""
			if !verify {
				backups, store = args[:len(args)-1], args[len(args)-1]
			}
			if store == inStream {
				return usageError{errors.New("restore: STORE is a file, - is standard input, as COPY alone")}
			}
			if slices.Contains(backups, inStream) {
				if verify || len(backups) > 1 {
					return usageError{errors.New("standard input is a full backup that is restored at once: with increments or --verify, want a file")}
				}
				return p.restoreStream(c.Context(), store, asJSON)
			}
			for _, path := range backups {
				if err := checkPath(path, reading); err != nil {
					return fmt.Errorf("restore: %w", err)
				}
			}
			options, err := p.options()
			if err != nil {
				return err
			}
			what := "copy"
			if verify {
				what = "verify"
			}
			shown := p.copyProgress(what, asJSON)
			if verify {
				err = cidstore.VerifyBackup(c.Context(), backups, options, shown.update)
			} else {
				err = cidstore.RestoreSeries(c.Context(), backups, store, options, shown.update)
			}
			shown.finish()
			if wrong := judgeHead(backups[0], err); wrong != nil {
				err = fmt.Errorf("restore %s: %w", backups[0], wrong)
			}
			switch {
			case err != nil:
				return err
			case verify:
				return p.result(verified{"ok", backups}, "ok: %d files", len(backups))
			}
			return p.reportCopy("restored", store)
		},
	}
	c.Flags().BoolVar(&verify, "verify", false, "only read COPY and the increments, and say whether they are good")
	progressFlag(c, &asJSON)
	return c
}

// restoreStream restores what comes from standard input.
func (p *program) restoreStream(ctx context.Context, store string, asJSON bool) error {
	options, err := p.options()
	if err != nil {
		return err
	}
	shown := p.copyProgress("copy", asJSON)
	err = cidstore.RestoreFrom(ctx, &interruptible{in: p.in, ctx: ctx, buffer: make([]byte, pipeBytes)}, store, options, shown.update)
	shown.finish()
	if err != nil {
		return err
	}
	return p.reportCopy("restored", store)
}

// interruptible reads until the context is done. A read that waits then goes on, and ends
// with the program.
type interruptible struct {
	in     io.Reader
	ctx    context.Context
	buffer []byte
	left   []byte // of buffer, read and not yet given
}

// pipeBytes are read at once.
const pipeBytes = 64 << 10

func (r *interruptible) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		type result struct {
			n   int
			err error
		}
		done := make(chan result, 1)
		go func() {
			n, err := r.in.Read(r.buffer)
			done <- result{n, err}
		}()
		select {
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		case got := <-done:
			if got.n == 0 {
				return 0, got.err
			}
			r.left = r.buffer[:got.n] // with an error too: the next read has it again
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
