package main

import "math"

// unit says how a measurement is printed. Less is better for all units except rates
// and factors.
type unit string

const (
	rate   unit = "/s"
	nanos  unit = "ns"
	octets unit = "B"
	factor unit = "x" // more is better too
)

func (u unit) moreIsBetter() bool { return u == rate || u == factor }

// row is one line of the table; its name is unique in its workload.
type row struct {
	name string
	unit unit
}

// workload is a part of the table.
type workload struct {
	name, title string
	rows        []row
}

// loadRows are those of W1, W1b and W1c.
var loadRows = []row{
	{"pairs", rate}, {"last tenth ÷ mean", factor}, {"pairs, until closed", rate},
	{"batch p50", nanos}, {"batch p99", nanos}, {"batch p99.9", nanos}, {"batch longest", nanos},
	{"CPU a pair", nanos}, {"own memory, at most", octets}, {"written to the device a pair", octets},
	{"files at their largest, a pair", octets}, {"files after Close, a pair", octets},
}

// workloads are all workloads, in the order in which they run. W1 leaves the store
// that W2, W3, W5 and W6 need.
var workloads = []workload{
	{"W1", "durable batches of 1,000 pairs, one value a key", loadRows},
	{"W1b", "durable batches of 64 pairs, one value a key", loadRows},
	{"W1c", "batches of 1,000 pairs, relaxed, one value a key", loadRows},
	{"W2", "single durable pairs", []row{
		{"1 writer", rate}, {"1 writer p99", nanos}, {"16 writers", rate}, {"16 writers p99", nanos},
	}},
	{"W3", "lookups", []row{
		{"hits ×1", rate}, {"hits ×1 p50", nanos}, {"hits ×1 p99", nanos},
		{"misses ×1", rate}, {"misses ×1 p50", nanos}, {"misses ×1 p99", nanos},
		{"hits ×2", rate}, {"hits ×2 ÷ ×1", factor}, {"hits ×2 p50", nanos}, {"hits ×2 p99", nanos},
		{"misses ×2", rate}, {"misses ×2 p50", nanos}, {"misses ×2 p99", nanos},
	}},
	{"W4", "sets of values, and one large set", []row{
		{"insert values", rate}, {"read sets, values", rate}, {"delete 10 %, values", rate},
		{"large set: insert values", rate}, {"large set: read, values", rate}, {"large set: delete 10 %, values", rate},
		{"large set: read once reopened, values", rate}, {"large set: delete all", nanos},
	}},
	{"W5", "two readers beside a durable writer", []row{
		{"lookups", rate}, {"lookup p99", nanos}, {"write p99", nanos},
	}},
	{"W6", "open, with a first lookup", []row{
		{"after Close", nanos}, {"after kill -9", nanos},
	}},
	{"W7", "files after Close, bytes a pair that is there", spaceRows()},
}

// measure is one measurement. Cut says that the phase was stopped at its time
// limit, and that this is for what was done until then.
type measure struct {
	Value float64
	Cut   bool `json:",omitempty"`
}

// measures holds what a workload measured, by the names of its rows.
type measures map[string]measure

// put records a measurement, unless this system cannot make it.
func (m measures) put(name string, value float64, cut bool) {
	if !math.IsNaN(value) && !math.IsInf(value, 0) {
		m[name] = measure{value, cut}
	}
}
