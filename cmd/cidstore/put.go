package main

import (
	"fmt"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/keys"
	"github.com/spf13/cobra"
)

// changed is the answer of put and del.
type changed struct {
	Key     cidstore.E `json:"key"`
	New     *int       `json:"new,omitempty"`
	Deleted *int       `json:"deleted,omitempty"`
	Values  int        `json:"values"` // of the key, now
}

func (p *program) putCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "put STORE KEY VALUE...",
		Short: "Add values to a key",
		Long: `Put adds the values to the set of the key, all of them or none, and prints how many
are new. Adding a value that the set already has changes nothing. Texts that import
rejects, such as an empty one, are wrong usage. A text that looks like a mistyped
identifier is a name, with a warning on standard error; so it is for get, del and count.`,
		Args: arguments(3, many),
		RunE: func(_ *cobra.Command, args []string) error {
			key := cidstore.ParseKey(args[1])
			var b cidstore.Batch
			for _, v := range args[2:] {
				b.Insert(key, cidstore.ParseKey(v))
			}
			return p.change(args[0], making, &b, key, func(before, after int) error {
				added := after - before
				return p.result(changed{Key: key, New: &added, Values: after}, "%d new", added)
			})
		},
	}
}

// change applies a batch, and calls report with the numbers of values of key before and
// after it.
func (p *program) change(path string, how access, b *cidstore.Batch, key cidstore.E, report func(before, after int) error) error {
	return p.withStore(path, how, func(s *cidstore.Store) error {
		before, err := s.Count(key)
		if err != nil {
			return err
		}
		if err := s.Apply(b); err != nil {
			return err
		}
		after, err := s.Count(key)
		if err != nil {
			return err
		}
		return report(before, after)
	})
}

// checkTexts applies the rules of import to the texts that a command was given: keys or,
// for put and del, a key and values. It warns of those that look like mistyped identifiers.
func (p *program) checkTexts(command string, texts []string) error {
	for n, text := range texts {
		err := checkText([]byte(text))
		switch {
		case text == "" && n > 0 && (command == "put" || command == "del"):
			return usageError{fmt.Errorf("%s: %w", command, errNoValue)}
		case text == "":
			return usageError{fmt.Errorf("%s: %w", command, errNoKey)}
		case err != nil:
			return usageError{fmt.Errorf("%s: %q: %w", command, text, err)}
		case keys.Resembles(text):
			p.note("warning: %s", mistyped(text))
		}
	}
	return nil
}
