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
			if err := p.checkTexts("put", args[1:2], args[2:]); err != nil {
				return err
			}
			return p.withStore(args[0], making, func(s *cidstore.Store) error { return p.put(s, args[1], args[2:]) })
		},
	}
}

// checkTexts applies the rules of import to the texts that a command was given. It warns of
// those that look like mistyped identifiers.
func (p *program) checkTexts(command string, names, values []string) error {
	for _, part := range []struct {
		texts []string
		empty error
	}{{names, errNoKey}, {values, errNoValue}} {
		for _, text := range part.texts {
			if text == "" {
				return usageError{fmt.Errorf("%s: %w", command, part.empty)}
			}
			if err := checkText([]byte(text)); err != nil {
				return usageError{fmt.Errorf("%s: %q: %w", command, text, err)}
			}
			if keys.Resembles(text) {
				p.note("warning: %s", mistyped(text))
			}
		}
	}
	return nil
}

func (p *program) put(s *cidstore.Store, name string, values []string) error {
	key := cidstore.ParseKey(name)
	var b cidstore.Batch
	for _, v := range values {
		b.Insert(key, cidstore.ParseKey(v))
	}
	before, after, err := applyAndCount(s, &b, key)
	if err != nil {
		return err
	}
	added := after - before
	return p.result(changed{Key: key, New: &added, Values: after}, "%d new", added)
}

// applyAndCount returns the number of values of key before and after the batch.
func applyAndCount(s *cidstore.Store, b *cidstore.Batch, key cidstore.E) (before, after int, err error) {
	if before, err = s.Count(key); err != nil {
		return 0, 0, err
	}
	if err = s.Apply(b); err != nil {
		return 0, 0, err
	}
	after, err = s.Count(key)
	return before, after, err
}
