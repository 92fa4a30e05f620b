package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// figure is one line of stat. Its name is that of the JSON field, with the unit.
type figure struct {
	name  string
	value any
}

// Bounds of --watch.
const (
	usualWatch = 2 * time.Second
	leastWatch = 10 * time.Millisecond
)

func (p *program) statCommand() *cobra.Command {
	var every time.Duration
	var journal bool
	c := &cobra.Command{
		Use:   "stat STORE",
		Short: "Print figures of the file and the store",
		Long: `Stat prints figures of the file and the store. Problems that do not prevent opening are
noted on standard error, as with check.

The size of the file is the sum of live_bytes, which the newest root uses, log_bytes and
dead_bytes. Dead bytes are free_bytes, which can be used again, limbo_bytes, which a
later commit frees, and pinned_bytes, which cannot be used again while somebody reads an
old root. oldest_pin is the commit of the oldest root that is read, or the newest commit
if no old one is. If there is one, oldest_pin_holder is the process that reads it, or
"another program" if the system does not say which, and oldest_pin_seconds is how long
this command has seen it: see --watch. While an old root is read, all of dead_bytes
counts as pinned, as it would for a writer that opens the store. A writer that already
has it open may know that some of it is free.

With --journal it prints, instead of the figures, the last 128 steps of maintenance,
oldest first, one per line: when each ended, its kind (merge, halve, migrate, compact,
demote, collect, scrub, mend, shrink, grow log), how many things it handled, and how
long it took. The figures include the time of the last scrub.

With --watch it prints the current figures again and again, as one block each time or,
with --json, as one line, until a signal ends it; Ctrl-C gives exit code 130. It does
not disturb a writer, but the file cannot be shrunk in that time.`,
		Args: arguments(1, 1),
		RunE: func(c *cobra.Command, args []string) error {
			watch := c.Flags().Changed("watch")
			if watch && every < leastWatch {
				return usageError{fmt.Errorf("--watch: %v, want %v or more", every, leastWatch)}
			}
			if watch && journal {
				return usageError{errors.New("--watch and --journal: want one of them")}
			}
			return p.withStore(args[0], reading, func(s *cidstore.Store) error {
				p.noteOpening(s.Recovery())
				if journal {
					return p.printJournal(s)
				}
				if watch {
					return p.watch(args[0], s, every)
				}
				return p.stat(args[0], s)
			})
		},
	}
	c.Flags().DurationVar(&every, "watch", 0, "print the figures again and again, at this `interval`, such as 500ms or 1m")
	c.Flags().BoolVar(&journal, "journal", false, "print the last steps of maintenance instead")
	c.Flag("watch").NoOptDefVal = usualWatch.String()
	return c
}

func (p *program) stat(path string, s *cidstore.Store) error {
	list, err := p.figures(path, s)
	if err != nil {
		return err
	}
	r := s.Recovery()
	return p.printFigures(append(list,
		figure{"closed_cleanly", r.Clean},
		figure{"pending_batches", r.FramesReplayed},
		figure{"fell_back", r.FellBack},
		figure{"torn_at", r.TornAt},
		figure{"torn_records", r.TornRecords}))
}

// watch prints the figures that can change while the store is open for reading.
func (p *program) watch(path string, s *cidstore.Store, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		list, err := p.figures(path, s)
		if err != nil {
			return err
		}
		list = append([]figure{{"time", time.Now().Format(stamp)}}, list...)
		if err := p.printFigures(list); err != nil {
			return err
		}
		if !p.json {
			p.line("")
		}
		if err := p.out.Flush(); err != nil {
			return err
		}
		select {
		case <-p.ctx.Done():
			return p.interrupted()
		case <-tick.C:
		}
		if err := s.Refresh(); err != nil {
			return err
		}
	}
}

// byName returns figures as an object of JSON.
func byName(list []figure) map[string]any {
	object := make(map[string]any, len(list))
	for _, f := range list {
		object[f.name] = f.value
	}
	return object
}

func (p *program) printFigures(list []figure) error {
	if p.json {
		return p.result(byName(list), "")
	}
	for _, f := range list {
		p.line("%-18s %v", f.name, f.value)
	}
	return nil
}

// figures returns the current figures.
func (p *program) figures(path string, s *cidstore.Store) ([]figure, error) {
	f, err := s.Figures(p.ctx)
	if err != nil {
		return nil, err
	}
	space, err := s.Space()
	if err != nil {
		return nil, err
	}
	m := s.Metrics()
	list := []figure{
		{"keys", f.Keys},
		{"values", f.Values},
		{"groups", f.Groups},
		{"buckets", f.Buckets},
		{"runs", f.Runs},
		{"waiting_entries", f.WaitingEntries},
		{"spilled_sets", f.SpilledSets},
		{"tombstones", f.Tombstones},
		{"deletion_rows", m.DeletionRows},
		{"directory_size", m.DirectorySize},
		{"directory_mode", s.DirectoryMode()},
		{"format_version", cidstore.FormatVersion},
		{"file_bytes", space.File},
		{"live_bytes", space.Live},
		{"log_bytes", space.Log},
		{"dead_bytes", space.Free + space.Limbo + space.Pinned},
		{"free_bytes", space.Free},
		{"limbo_bytes", space.Limbo},
		{"pinned_bytes", space.Pinned},
		{"pending_operations", m.PendingOperations},
		{"commit", m.Commit},
		{"corrected_masks", m.CorrectedMasks},
		{"last_scrub", lastScrub(m.LastScrub)},
	}
	return append(list, pinFigures(&space)...), nil
}

// pinFigures returns the figures of the oldest root that somebody reads.
func pinFigures(space *cidstore.Space) []figure {
	oldest := figure{"oldest_pin", space.OldestPin}
	if space.OldestPin == space.Commit {
		return []figure{oldest}
	}
	holder := any("another program")
	if space.OldestPinHolder != 0 {
		holder = fmt.Sprintf("process %d", space.OldestPinHolder)
	}
	return []figure{
		oldest,
		{"oldest_pin_holder", holder},
		{"oldest_pin_seconds", int64(time.Since(space.OldestPinSeen).Seconds())},
	}
}

// stamp is the format of printed times.
const stamp = "2006-01-02T15:04:05.000Z07:00"

// entry is an entry of the journal.
type entry struct {
	Time    string  `json:"time"`
	Kind    string  `json:"kind"`
	Count   uint64  `json:"count"`
	Seconds float64 `json:"seconds"`
}

// printJournal prints the last steps of maintenance, oldest first.
func (p *program) printJournal(s *cidstore.Store) error {
	list := []entry{}
	for _, m := range s.Journal() {
		list = append(list, entry{m.Time.Format(stamp), m.Kind, m.Count, m.Took.Seconds()})
	}
	if p.json {
		return p.result(struct {
			Journal []entry `json:"journal"`
		}{list}, "")
	}
	for _, e := range list {
		p.line("%s  %-8s %12d %10.3f s", e.Time, e.Kind, e.Count, e.Seconds)
	}
	return nil
}

// lastScrub returns a time as a figure.
func lastScrub(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.Format(stamp)
}
