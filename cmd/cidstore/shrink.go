package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// shrunk is the answer of shrink.
type shrunk struct {
	Path     string `json:"path"`
	Before   int64  `json:"before"`
	Expected int64  `json:"expected"`
	After    int64  `json:"after"`
	Freed    int64  `json:"freed"`
}

// estimate is the answer of shrink --estimate.
type estimate struct {
	Path     string `json:"path"`
	Bytes    int64  `json:"bytes"`
	Expected int64  `json:"expected"` // after shrink
}

// notAloneError says that another process has the store open, perhaps only for reading.
type notAloneError struct{ error }

func (e notAloneError) Unwrap() error { return e.error }

// aloneAgain is how long shrink waits before it tries again whether it is alone.
const aloneAgain = 20 * time.Millisecond

func (p *program) shrinkCommand() *cobra.Command {
	var estimate bool
	c := &cobra.Command{
		Use:   "shrink STORE",
		Short: "Give free space of the file back to the file system",
		Long: `Shrink moves data from the end of the file into the gaps before it, and cuts the file
off after the data. No other process may have the file open, not even for reading:
shrink waits for up to --wait and then ends with exit code 4. It can be stopped or
killed at any moment; everything that it has done until then is kept.

It prints the size before and after. On a terminal it first prints about what size to
expect. Some free space stays: room for the next writes, and small gaps. With --estimate
it writes nothing, prints the size now and about what it would be, and can run beside
other processes. Space that they hold cannot be given back.`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if estimate {
				return p.estimateShrink(args[0])
			}
			return p.shrink(args[0])
		},
	}
	c.Flags().BoolVar(&estimate, "estimate", false, "write nothing; print the size now and about what it would be")
	p.progressFlag(c)
	return c
}

func (p *program) shrink(path string) error {
	expected, shown := int64(0), p.progress("move")
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
		err = p.shrinkWhenAlone(s, options)
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

// shrinkWhenAlone waits, for up to --wait, until others have closed the file.
func (p *program) shrinkWhenAlone(s *cidstore.Store, options *cidstore.ShrinkOptions) error {
	for end := time.Now().Add(p.wait); ; {
		err := s.ShrinkWith(p.ctx, options)
		if !errors.Is(err, cidstore.ErrLocked) || time.Until(end) <= 0 {
			return err
		}
		select {
		case <-p.ctx.Done():
			return p.interrupted()
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
