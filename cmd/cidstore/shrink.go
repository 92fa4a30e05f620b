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
	Path     string `json:"path"`
	Before   int64  `json:"before"`
	Expected int64  `json:"expected"`
	After    int64  `json:"after"`
	Freed    int64  `json:"freed"`
}

// estimate is what shrink --estimate answers.
type estimate struct {
	Path     string `json:"path"`
	Bytes    int64  `json:"bytes"`
	Expected int64  `json:"expected"` // after shrink
}

// notAloneError: somebody else has the store open, perhaps for reading alone.
type notAloneError struct{ error }

func (e notAloneError) Unwrap() error { return e.error }

// aloneAgain is how long shrink waits between two attempts to be alone with the file.
const aloneAgain = 20 * time.Millisecond

func (p *program) shrinkCommand() *cobra.Command {
	var estimate, asJSON bool
	c := &cobra.Command{
		Use:   "shrink STORE",
		Short: "Give free space of the file back to the file system",
		Long: `Shrink moves what lies at the end of the file into the gaps before it, and cuts the
file off after the data. It needs to be alone with the file: while another process
has it open, for reading too, shrink waits for up to --wait and then ends with exit
code 4. It can be stopped or killed at any moment; what it has done by then stays done.

It prints the size before and after, and on a terminal, before it starts, about what size
to expect. Some free space stays: room for the next writes, and small gaps. With --estimate
nothing is written: shrink prints the size and about what it would be, beside other processes
if there are any. It cannot give back what they hold.`,
		Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			if estimate {
				return p.estimateShrink(args[0])
			}
			return p.shrink(c.Context(), args[0], asJSON)
		},
	}
	c.Flags().BoolVar(&estimate, "estimate", false, "write nothing; print the size now, and about what it would be")
	progressFlag(c, &asJSON)
	return c
}

func (p *program) shrink(ctx context.Context, path string, asJSON bool) error {
	expected, shown := int64(0), p.copyProgress("move", asJSON)
	options := &cidstore.ShrinkOptions{Progress: shown.update}
	before, after, err := p.sizesAround(path, func(s *cidstore.Store) error {
		space, err := s.Space()
		if err != nil {
			return err
		}
		expected = space.Shrunk
		if shown.out != nil {
			p.note("%s: %d bytes, about %d when shrunk", path, space.File, expected)
		}
		err = p.shrinkWhenAlone(ctx, s, options)
		shown.finish()
		if errors.Is(err, cidstore.ErrLocked) {
			err = notAloneError{fmt.Errorf("%s: %w", path, err)}
		}
		return err
	})
	if err != nil {
		return err
	}
	freed := max(0, before-after)
	return p.result(shrunk{path, before, expected, after, freed}, "%s: %d bytes before, %d after, %d freed", path, before, after, freed)
}

// shrinkWhenAlone waits for others to close the file, as long as --wait says.
func (p *program) shrinkWhenAlone(ctx context.Context, s *cidstore.Store, options *cidstore.ShrinkOptions) error {
	for end := time.Now().Add(p.wait); ; {
		err := s.ShrinkWith(ctx, options)
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

func (p *program) estimateShrink(path string) error {
	return p.withStore(path, reading, func(s *cidstore.Store) error {
		space, err := s.Space()
		if err != nil {
			return err
		}
		return p.result(estimate{path, space.File, space.Shrunk}, "%s: %d bytes, about %d when shrunk", path, space.File, space.Shrunk)
	})
}
