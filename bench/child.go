package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// task is what a child process should do. It gets this in the environment.
type task struct {
	Peer, Step, Dir string

	N       uint64 // pairs that are in the store, or are to be inserted
	Seed    uint64
	Batch   uint64 // pairs a batch
	Lookups uint64 // in each phase that looks up
	Keys    uint64 // W4
	Large   uint64 // W4: values of the large set
	Relaxed bool   // whether batches need not be durable
	Acked   uint64 // recover: batches after the first N pairs that were acknowledged

	Phase time.Duration // length of the phases of W2 and W5
	Limit time.Duration // longest time that any other phase may take
}

// message is what a child says on its standard output, one or more times.
type message struct {
	Acked  uint64  `json:",omitempty"` // batches so far
	Result *result `json:",omitempty"` // the last message
}

type result struct {
	Error    string   `json:",omitempty"`
	Done     uint64   `json:",omitempty"` // load: pairs that were inserted
	Measures measures `json:",omitempty"`
}

// taskVariable is the environment variable that makes this program a child.
const taskVariable = "CIDSTORE_BENCH_TASK"

type child struct {
	task
	peer peer
	out  *json.Encoder
	result
}

// steps are what a child can do.
var steps = map[string]func(*child) error{
	"load": (*child).load, "verify": (*child).verify, "singles": (*child).singles, "lookups": (*child).lookups,
	"sets": (*child).sets, "mixed": (*child).mixed, "reopen": (*child).reopen, "write": (*child).write, "recover": (*child).afterKill,
	"space": (*child).space,
}

// runChild does what the environment asks for. It returns false if that is nothing.
func runChild() bool {
	text, ok := os.LookupEnv(taskVariable)
	if !ok {
		return false
	}
	c := &child{out: json.NewEncoder(os.Stdout)}
	os.Stdout = os.Stderr // for engines that print
	c.Measures = make(measures)
	if err := c.run(text); err != nil {
		c.Error = err.Error()
	}
	if err := c.out.Encode(message{Result: &c.result}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func (c *child) run(text string) error {
	if err := json.Unmarshal([]byte(text), &c.task); err != nil {
		return fmt.Errorf("task %q: %w", text, err)
	}
	var known bool
	if c.peer, known = peerNamed(c.Peer); !known {
		return fmt.Errorf("no engine is called %q", c.Peer)
	}
	step, known := steps[c.Step]
	if !known {
		return fmt.Errorf("no step is called %q", c.Step)
	}
	return step(c)
}

// open opens the store, which is new if there is nothing in the directory.
func (c *child) open() (engine, error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	e, err := c.peer.open(c.Dir, c.Relaxed)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return e, nil
}

// withStore opens the store, runs body, and closes the store if body returned no
// error.
func (c *child) withStore(body func(engine) error) error {
	e, err := c.open()
	if err != nil {
		return err
	}
	if err := body(e); err != nil {
		return err
	}
	if err := e.close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// checkStore opens the store, runs body with a checker, and closes both.
func (c *child) checkStore(body func(*checker) error) error {
	return c.withStore(func(e engine) error { return c.withChecker(e, body) })
}

// withReader runs body with a reader for one goroutine, and closes it if body returned no
// error.
func withReader(e engine, body func(reader) error) error {
	r, err := e.newReader()
	if err != nil {
		return err
	}
	if err := body(r); err != nil {
		return err
	}
	return r.close()
}

// withChecker is withReader for a checker.
func (c *child) withChecker(e engine, body func(*checker) error) error {
	return withReader(e, func(r reader) error { return body(&checker{reader: r, seed: c.Seed}) })
}

// checker looks up pairs and compares them with what they must be.
type checker struct {
	reader
	seed  uint64
	found [][16]byte
}

// hit checks that key i has value i and no other.
func (k *checker) hit(i uint64) error {
	has, err := k.has(i)
	if err != nil {
		return err
	}
	if !has {
		return fmt.Errorf("WRONG DATA: key %d is absent, want value %d", i, i)
	}
	return nil
}

// miss checks that a key that was never inserted is absent.
func (k *checker) miss(i uint64) (err error) {
	if k.found, err = k.lookup(missAt(k.seed, i), k.found[:0]); err != nil {
		return err
	}
	if len(k.found) != 0 {
		return fmt.Errorf("WRONG DATA: key %d, never inserted, has %d values", i, len(k.found))
	}
	return nil
}

// has reports whether key i is there, and checks that value i is then its only
// value.
func (k *checker) has(i uint64) (_ bool, err error) {
	if k.found, err = k.lookup(keyAt(k.seed, i), k.found[:0]); err != nil || len(k.found) == 0 {
		return false, err
	}
	if len(k.found) != 1 || k.found[0] != valueAt(k.seed, i) {
		return false, fmt.Errorf("WRONG DATA: key %d has %d values, want value %d alone", i, len(k.found), i)
	}
	return true, nil
}
