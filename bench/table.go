package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// report is all that was measured; it is what -json writes.
type report struct {
	Time                  time.Time
	Go, System, Processor string
	CPUs                  int
	InMemory              bool
	SyncMicros            float64 // for a write of 4 KiB and its sync
	N, Seed               uint64
	Runs                  int
	Keys, Large, Lookups  uint64
	Phase, Limit          time.Duration
	Engines               []version
	Outcomes              []outcome
}

type version struct{ Name, Module, Version string }

// outcome is what one run of a workload on an engine measured, or why it failed.
type outcome struct {
	Engine, Workload string
	Run              int
	Seconds          float64
	Error            string   `json:",omitempty"`
	Measures         measures `json:",omitempty"`
}

func (r *report) failed() bool {
	return slices.ContainsFunc(r.Outcomes, func(o outcome) bool { return o.Error != "" })
}

// cell is the median of a measurement over the runs.
type cell struct {
	value                float64
	missing, cut, failed bool
}

func (r *report) cell(engine, workload, name string) cell {
	c := cell{}
	var values []float64
	for _, o := range r.Outcomes {
		if o.Engine != engine || o.Workload != workload {
			continue
		}
		c.failed = c.failed || o.Error != ""
		if m, ok := o.Measures[name]; ok {
			values = append(values, m.Value)
			c.cut = c.cut || m.Cut
		}
	}
	c.missing = len(values) == 0
	c.value = median(values)
	return c
}

func (c cell) text(u unit) string {
	switch {
	case c.failed:
		return "FAIL"
	case c.missing:
		return "–"
	case c.cut:
		return u.format(c.value) + " \\*"
	}
	return u.format(c.value)
}

// median returns the middle value, or the mean of the two in the middle; 0 if there
// are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

const ours = "cidstore"

// compare returns the best of the peers, and how many times better CIDStore is.
// Both are a dash if there is nothing to compare.
func (r *report) compare(workload string, l row) (best, ratio string) {
	best, ratio = "–", "–"
	var value float64
	for _, e := range r.Engines {
		c := r.cell(e.Name, workload, l.name)
		if e.Name == ours || c.failed || c.missing {
			continue
		}
		if best == "–" || l.unit.better(c.value, value) {
			best, value = e.Name, c.value
		}
	}
	c := r.cell(ours, workload, l.name)
	switch {
	case c.failed:
		ratio = "FAIL"
	case c.missing || best == "–" || c.value == 0 || value == 0:
	case l.unit.moreIsBetter():
		ratio = fmt.Sprintf("%.2f", c.value/value)
	default:
		ratio = fmt.Sprintf("%.2f", value/c.value)
	}
	return best, ratio
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s, seed %d, medians of %s; %s, %s, %d CPUs %s; a write of 4 KiB and its sync take %.0f µs.\n",
		count(r.N, "pair"), r.Seed, count(uint64(r.Runs), "run"), r.Go, r.System, r.CPUs, r.Processor, r.SyncMicros)
	if r.InMemory {
		fmt.Fprintln(w, "THE FILES WERE IN MEMORY: what is durable here costs nothing.")
	}
	fmt.Fprintf(w, "Ratio: how many times better than the best peer of the row CIDStore is; below 1 it is worse.\n\n")

	head, line := "| |", "|---|"
	for _, e := range r.Engines {
		head += " " + e.Name + " |"
		line += "---:|"
	}
	fmt.Fprintf(w, "%s best peer | ratio |\n%s---|---:|\n", head, line)
	cut := false
	for _, group := range workloads {
		if !slices.ContainsFunc(r.Outcomes, func(o outcome) bool { return o.Workload == group.name }) {
			continue
		}
		fmt.Fprintf(w, "| **%s %s** |%s\n", group.name, group.title, strings.Repeat(" |", len(r.Engines)+2))
		for _, l := range group.rows {
			fmt.Fprintf(w, "| %s |", l.name)
			for _, e := range r.Engines {
				c := r.cell(e.Name, group.name, l.name)
				cut = cut || c.cut
				fmt.Fprintf(w, " %s |", c.text(l.unit))
			}
			best, ratio := r.compare(group.name, l)
			fmt.Fprintf(w, " %s | %s |\n", best, ratio)
		}
	}
	fmt.Fprintln(w)
	if cut {
		fmt.Fprintf(w, "\\* stopped after %v (-limit): the figure is of what was done by then.\n\n", r.Limit)
	}
	for _, e := range r.Engines {
		fmt.Fprintf(w, "- %s: %s, %s\n", e.Name, e.Module, e.Version)
	}
	for _, o := range r.Outcomes {
		if o.Error != "" {
			fault, _, _ := strings.Cut(o.Error, "\n")
			fmt.Fprintf(w, "- FAIL: %s, %s, run %d: %s\n", o.Engine, o.Workload, o.Run+1, fault)
		}
	}
}

func count(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits + " " + noun + "s"
}

func (u unit) better(a, b float64) bool {
	if u.moreIsBetter() {
		return a > b
	}
	return a < b
}

// format prints a value in its unit with three digits.
func (u unit) format(v float64) string {
	step, names := 1000.0, map[unit][]string{
		rate: {" /s", " k/s", " M/s"}, nanos: {" ns", " µs", " ms", " s"}, octets: {" B", " KiB", " MiB"}, factor: {""},
	}[u]
	if u == octets {
		step = 1024
	}
	for ; v >= step && len(names) > 1; names = names[1:] {
		v /= step
	}
	return digits(v) + names[0]
}

func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
