package main

import (
	"time"

	"github.com/cidstore/cidstore"
)

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

// lastScrub is a figure that is a time or "never".
type lastScrub time.Time

func (l lastScrub) String() string {
	if time.Time(l).IsZero() {
		return "never"
	}
	return time.Time(l).Format(stamp)
}

// MarshalText returns the text for JSON.
func (l lastScrub) MarshalText() ([]byte, error) { return []byte(l.String()), nil }
