package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// host runs the workloads of one engine, each in its own process.
type host struct {
	config
	peer peer
	dir  string // removed at the end
	run  int
	base bool // whether baseDir has a complete store of N pairs
}

func (h *host) baseDir() string { return filepath.Join(h.dir, "base") }

// measure adds the outcome of each chosen workload to the report.
func (h *host) measure(ctx context.Context, r *report, progress io.Writer) error {
	for _, w := range workloads {
		if !slices.Contains(h.workloads, w.name) {
			continue
		}
		start := now()
		m, err := h.workload(ctx, w.name)
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		o := outcome{Engine: h.peer.name, Workload: w.name, Run: h.run, Seconds: seconds(start), Measures: m}
		status := "ok"
		if err != nil {
			o.Error, status = err.Error(), "FAIL: "+err.Error()
		}
		r.Outcomes = append(r.Outcomes, o)
		fmt.Fprintf(progress, "%d/%d %-8s %s %6.1f s %s\n", h.run+1, h.runs, h.peer.name, w.name, o.Seconds, status)
	}
	return os.RemoveAll(h.dir)
}

func (h *host) workload(ctx context.Context, name string) (measures, error) {
	t := h.task
	switch name {
	case "W1":
		m, cut, err := h.load(ctx, t, h.baseDir())
		h.base = err == nil && !cut
		return m, err
	case "W1b", "W1c":
		if t.Relaxed = name == "W1c"; !t.Relaxed {
			t.Batch = 64
		}
		dir := filepath.Join(h.dir, name)
		m, _, err := h.load(ctx, t, dir)
		return m, errors.Join(err, os.RemoveAll(dir))
	case "W4":
		return h.inOwnDir(ctx, t, "sets")
	case "W7":
		return h.inOwnDir(ctx, h.unhurried(), "space")
	}
	if err := h.needBase(ctx); err != nil {
		return nil, fmt.Errorf("the store to start from: %w", err)
	}
	switch name {
	case "W2":
		return h.onCopy(ctx, "singles")
	case "W3":
		r, err := h.spawn(ctx, h.task, "lookups", h.baseDir())
		return r.Measures, err
	case "W5":
		return h.onCopy(ctx, "mixed")
	}
	return h.reopen(ctx)
}

// load runs W1, W1b or W1c and checks the store that it leaves in dir. cut says that
// the store is not complete.
func (h *host) load(ctx context.Context, t task, dir string) (_ measures, cut bool, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, false, err
	}
	syncDisks()
	before := deviceWritten(dir)
	r, err := h.spawn(ctx, t, "load", dir)
	if err != nil {
		return nil, false, err
	}
	syncDisks()
	cut = r.Done < t.N
	r.Measures.put("written to the device a pair", (deviceWritten(dir)-before)/float64(r.Done), cut)
	size, err := fileBytes(dir)
	if err != nil {
		return nil, cut, err
	}
	r.Measures.put("files after Close, a pair", float64(size)/float64(r.Done), cut)
	t.N = r.Done
	_, err = h.spawn(ctx, t, "verify", dir)
	return r.Measures, cut, err
}

// needBase makes the base, unless W1 has made it. It uses larger batches, and has
// no time limit.
func (h *host) needBase(ctx context.Context) error {
	if h.base {
		return nil
	}
	if err := os.RemoveAll(h.baseDir()); err != nil {
		return err
	}
	_, err := h.spawn(ctx, h.unhurried(), "load", h.baseDir())
	h.base = err == nil
	return err
}

// unhurried is a task for making a store without measuring the speed.
func (h *host) unhurried() task {
	t := h.task
	t.Batch, t.Limit = 10_000, h.timeout
	return t
}

func (h *host) onCopy(ctx context.Context, step string) (measures, error) {
	dir := filepath.Join(h.dir, step)
	if err := os.CopyFS(dir, os.DirFS(h.baseDir())); err != nil {
		return nil, err
	}
	return h.inOwnDir(ctx, h.task, step)
}

// inOwnDir runs a step in a directory with its name, and removes the directory.
func (h *host) inOwnDir(ctx context.Context, t task, step string) (measures, error) {
	dir := filepath.Join(h.dir, step)
	r, err := h.spawn(ctx, t, step, dir)
	return r.Measures, errors.Join(err, os.RemoveAll(dir))
}

// reopen is W6: the median of three openings after Close, and one after a kill.
func (h *host) reopen(ctx context.Context) (measures, error) {
	if err := warm(h.baseDir()); err != nil {
		return nil, err
	}
	var times []float64
	for range 3 {
		r, err := h.spawn(ctx, h.task, "reopen", h.baseDir())
		if err != nil {
			return nil, err
		}
		times = append(times, r.Measures["after Close"].Value)
	}
	acked, err := h.writeAndKill(ctx)
	if err != nil {
		return nil, err
	}
	t := h.task
	t.Acked = acked
	t.Dir = filepath.Join(h.dir, "write")
	r, err := h.spawn(ctx, t, "recover", t.Dir)
	if err != nil {
		return nil, fmt.Errorf("killed after batch %d: %w", acked, err)
	}
	r.Measures.put("after Close", median(times), false)
	return r.Measures, os.RemoveAll(t.Dir)
}

// writeAndKill starts a writer on a copy of the base, and kills it at a random
// moment after n/4 to n/2 more pairs, or at the limit. It returns how many batches
// were acknowledged.
func (h *host) writeAndKill(ctx context.Context) (acked uint64, err error) {
	dir := filepath.Join(h.dir, "write")
	if err := os.CopyFS(dir, os.DirFS(h.baseDir())); err != nil {
		return 0, err
	}
	rnd := random(h.Seed + uint64(h.run))
	batches := h.N / h.Batch
	target := batches/4 + rnd.next()%(batches/4+1)
	delay := time.Duration(rnd.next() % uint64(20*time.Millisecond)) // into the next batches

	ctx, kill := context.WithTimeout(ctx, h.Limit)
	defer kill()
	r, err := h.talk(ctx, h.task, "write", dir, func(n uint64) {
		if acked = n; n == target {
			time.AfterFunc(delay, kill)
		}
	})
	switch {
	case r != nil:
		return acked, fmt.Errorf("write: %s", r.Error)
	case ctx.Err() == nil:
		return acked, fmt.Errorf("write: the process died before it was killed: %w", err)
	}
	return acked, nil
}

// spawn runs one step in its own process, to its end.
func (h *host) spawn(ctx context.Context, t task, step, dir string) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	syncDisks() // so that this step does not wait for the pages of the one before
	r, err := h.talk(ctx, t, step, dir, func(uint64) {})
	switch {
	case ctx.Err() != nil:
		return result{}, fmt.Errorf("%s: killed: %w", step, ctx.Err())
	case r == nil:
		return result{}, fmt.Errorf("%s: the process died: %w", step, err)
	case r.Error != "":
		return result{}, fmt.Errorf("%s: %s", step, r.Error)
	case err != nil:
		return result{}, fmt.Errorf("%s: %w", step, err)
	}
	return *r, nil
}

// talk starts a child, passes on what it acknowledges, and returns its result, or
// nil if it died first. If the context ends, talk kills the child.
func (h *host) talk(ctx context.Context, t task, step, dir string, acked func(uint64)) (*result, error) {
	t.Peer, t.Step, t.Dir = h.peer.name, step, dir
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var said head
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), taskVariable+"="+string(text))
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var r *result
	for decoder := json.NewDecoder(out); ; {
		var m message
		if err = decoder.Decode(&m); err != nil {
			break // io.EOF, or half a message of a process that was killed
		}
		if r = m.Result; r == nil {
			acked(m.Acked)
		}
	}
	if err = cmd.Wait(); err != nil {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.text))
	}
	return r, err
}

// head keeps the first bytes that are written to it, because the cause of a panic
// comes before the stacks of all goroutines.
type head struct{ text []byte }

func (h *head) Write(p []byte) (int, error) {
	const room = 2000
	h.text = append(h.text, p[:min(len(p), room-len(h.text))]...)
	return len(p), nil
}

// fileBytes adds up the lengths of all files below dir. One that is removed before
// it is looked at does not count.
func fileBytes(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				size += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return size, err
}
