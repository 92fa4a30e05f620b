package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if runChild() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(realMain(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// config is what the flags say.
type config struct {
	task      // the part that goes to all children
	peers     []peer
	workloads []string
	runs      int
	dir, json string
	timeout   time.Duration
}

func realMain(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	c, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	r, err := c.measure(ctx, stderr)
	if err == nil && c.json != "" {
		err = r.write(c.json)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	r.print(stdout)
	if r.failed() {
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (config, error) {
	c := config{task: task{Batch: 1000}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Uint64Var(&c.N, "n", 1_000_000, "pairs in the store, 10,000 or more")
	flags.IntVar(&c.runs, "runs", 1, "how often everything is measured; the table has medians")
	engines := flags.String("engines", strings.Join(peerNames(), ","), "comma-separated names")
	chosen := flags.String("workloads", "W1,W1b,W1c,W2,W3,W4,W5,W6,W7", "comma-separated names")
	flags.StringVar(&c.dir, "dir", "", "where the stores are written, on a real disk; default: the directory for temporary files")
	flags.StringVar(&c.json, "json", "", "write every measurement of every run to this file")
	flags.Uint64Var(&c.Seed, "seed", 1, "the numbers from which keys and values follow")
	flags.Uint64Var(&c.Lookups, "lookups", 200_000, "lookups in each phase of W3")
	flags.Uint64Var(&c.Keys, "mk", 1000, "keys of W4, with n/mk values each")
	flags.Uint64Var(&c.Large, "large", 0, "values of the large set of W4; n/10 by default")
	flags.DurationVar(&c.Phase, "phase", 2*time.Second, "length of each phase of W2 and W5")
	flags.DurationVar(&c.Limit, "limit", time.Minute, "any other phase is cut after this time, and its figures marked; W7 is not")
	flags.DurationVar(&c.timeout, "timeout", time.Hour, "a process that runs longer is killed and has failed")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("argument %q, want only flags", flags.Arg(0))
	}
	for name := range strings.SplitSeq(*engines, ",") {
		p, ok := peerNamed(name)
		if !ok {
			return c, fmt.Errorf("-engines: %q, want some of %s", name, strings.Join(peerNames(), ", "))
		}
		c.peers = append(c.peers, p)
	}
	for name := range strings.SplitSeq(*chosen, ",") {
		if _, ok := workloadNamed(name); !ok {
			return c, fmt.Errorf("-workloads: %q, want some of W1, W1b, W1c, W2 to W7", name)
		}
		c.workloads = append(c.workloads, name)
	}
	if c.Large == 0 {
		c.Large = c.N / 10
	}
	switch {
	case c.N < 10*c.Batch:
		return c, fmt.Errorf("-n is %d, want %d or more", c.N, 10*c.Batch)
	case c.Keys < 1 || c.Keys > c.N:
		return c, fmt.Errorf("-mk is %d, want 1 to n", c.Keys)
	case c.runs < 1 || c.Lookups < 1 || c.Phase <= 0 || c.Limit <= 0 || c.timeout <= 0:
		return c, errors.New("-runs, -lookups, -phase, -limit and -timeout want more than 0")
	}
	return c, nil
}

// measure runs everything, and writes to progress how far it is. An error comes
// from this program or an interruption; what fails in an engine is in the report.
func (c config) measure(ctx context.Context, progress io.Writer) (r *report, err error) {
	dir, err := os.MkdirTemp(c.dir, "cidstore-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if inMemory(dir) {
		fmt.Fprintf(progress, "bench: %s is in memory, where a sync costs nothing: choose a disk with -dir\n", dir)
	}
	r = &report{
		Time: time.Now(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Processor: processor(), CPUs: runtime.NumCPU(), InMemory: inMemory(dir),
		N: c.N, Seed: c.Seed, Runs: c.runs, Keys: c.Keys, Large: c.Large, Lookups: c.Lookups, Phase: c.Phase, Limit: c.Limit,
	}
	if r.SyncMicros, err = probeSync(dir); err != nil {
		return nil, err
	}
	for _, p := range c.peers {
		r.Engines = append(r.Engines, version{p.name, p.module, p.version()})
	}
	for run := range c.runs {
		for _, p := range c.peers {
			h := &host{config: c, peer: p, dir: filepath.Join(dir, p.name), run: run}
			if err := h.measure(ctx, r, progress); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// probeSync returns the median time in microseconds of appending 4 KiB to a file
// and syncing it.
func probeSync(dir string) (float64, error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h, page := &histogram{}, make([]byte, 4096)
	for range 100 {
		before := now()
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		h.add(now() - before)
	}
	return h.quantile(.5) / 1000, nil
}

func peerNames() (names []string) {
	for _, p := range peers {
		names = append(names, p.name)
	}
	return names
}

func workloadNamed(name string) (w workload, known bool) {
	if i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name }); i >= 0 {
		return workloads[i], true
	}
	return w, false
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
