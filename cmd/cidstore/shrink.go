package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// shrunk is what shrink answers.
type shrunk struct {
	Path   string `json:"path"`
	Before int64  `json:"before"`
	After  int64  `json:"after"`
	Freed  int64  `json:"freed"`
}

// estimate is what shrink --estimate answers.
type estimate struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	AtMost int64  `json:"at_most"` // of them, what shrink may give back
}

// notAloneError: somebody else has the store open, perhaps for reading alone.
type notAloneError struct{ error }

func (e notAloneError) Unwrap() error { return e.error }

// aloneAgain is how long shrink waits between two attempts to be alone with the file.
const aloneAgain = 20 * time.Millisecond

func (p *program) shrinkCommand() *cobra.Command {
	var estimate bool
	c := &cobra.Command{
		Use:   "shrink STORE",
		Short: "Give free space of the file back to the file system",
		Long: `Shrink moves what lies at the end of the file into the gaps before it, and cuts the
file off after the data. It needs to be alone with the file: while another process
has it open, for reading too, shrink waits for up to --wait and then ends with exit
code 4. It can be stopped or killed at any moment; what it has done by then stays done.

It prints the size before and after. Some free space stays: room for the next writes,
and small gaps. With --estimate nothing is written: shrink reads the whole file, beside
other processes if there are any, and prints how much it could give back at most.`,
		Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if estimate {
				return p.estimateShrink(c.Context(), args[0])
			}
			return p.shrink(c.Context(), args[0])
		},
	}
	c.Flags().BoolVar(&estimate, "estimate", false, "write nothing; read the file and print what could be given back at most")
	return c
}

func (p *program) shrink(ctx context.Context, path string) error {
	before, after, err := p.sizesAround(path, func(s *cidstore.Store) error {
		err := p.shrinkWhenAlone(ctx, s)
		if errors.Is(err, cidstore.ErrLocked) {
			err = notAloneError{fmt.Errorf("%s: %w", path, err)}
		}
		return err
	})
	if err != nil {
		return err
	}
	freed := max(0, before-after)
	return p.result(shrunk{path, before, after, freed}, "%s: %d bytes before, %d after, %d freed", path, before, after, freed)
}

// shrinkWhenAlone waits for others to close the file, as long as --wait says.
func (p *program) shrinkWhenAlone(ctx context.Context, s *cidstore.Store) error {
	for end := time.Now().Add(p.wait); ; {
		err := s.Shrink(ctx)
		if !errors.Is(err, cidstore.ErrLocked) || time.Until(end) <= 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(aloneAgain, time.Until(end))):
		}
	}
}

// closedLog is what Close leaves of the log, bytes.
const closedLog = 16 << 10

// estimateShrink takes for free what the newest root does not use, and most of the log.
func (p *program) estimateShrink(ctx context.Context, path string) error {
	return p.withStore(path, reading, func(s *cidstore.Store) error {
		report, err := s.Check(ctx)
		if err != nil {
			return err
		}
		size, err := fileSize(path)
		if err != nil {
			return err
		}
		kept := headBytes + report.UsedBytes - max(0, int64(s.Metrics().WALBytes)-closedLog)
		atMost := max(0, size-kept)
		return p.result(estimate{path, size, atMost}, "%s: %d bytes, of which at most %d can be given back", path, size, atMost)
	})
}
