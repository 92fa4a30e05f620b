package cidstore

import (
	"iter"
	"sync"

	"github.com/cidstore/cidstore/bucket"
)

// walkedGroups is how many groups a walk holds: the one that the loop has, those that are
// being read, and those that wait for the loop.
const walkedGroups = 4

// walk reads the items of all groups, for one loop. In a large store a second goroutine
// reads groups ahead of the loop. It ends when the walk has no room, and the loop starts
// it again later, so it never waits for a caller's code.
type walk struct {
	v      *Snapshot
	helped bool // a second goroutine may read

	mu      sync.Mutex // guards the fields below
	ready   sync.Cond  // uses mu; signals that a group has been read or the second goroutine ends
	groups  [walkedGroups]walked
	begun   int    // groups that are read, or being read
	taken   int    // groups that the loop got
	done    int    // groups that the loop is done with
	next    uint64 // lowest hash of the group after those
	over    bool   // there is none, or none is wanted
	helping bool   // the second goroutine runs
}

// walked is a group. Only its reader looks at items and err until it is read.
type walked struct {
	items []bucket.Item
	err   error
	read  bool
}

// groups yields the items of each group, in order of hashes, with what is wrong there. The
// items are valid until the loop goes on. helped says that two goroutines may read.
func (v *Snapshot) groups(helped bool) iter.Seq2[[]bucket.Item, error] {
	return func(yield func([]bucket.Item, error) bool) {
		w := walk{v: v, helped: helped}
		w.ready.L = &w.mu
		defer w.end()
		for g := w.take(); g != nil && yield(g.items, g.err); g = w.take() {
		}
	}
}

// take returns the next group, or nil after the last one. While another goroutine reads it,
// the caller reads one that comes later.
func (w *walk) take() *walked {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = w.taken
	for {
		if w.helped && w.taken > 0 && !w.helping && w.hasRoom() {
			w.helping = true
			go w.help()
		}
		switch g := &w.groups[w.taken%walkedGroups]; {
		case w.taken < w.begun && g.read:
			w.taken++
			return g
		case w.hasRoom():
			w.read()
		case w.taken == w.begun:
			return nil
		default:
			w.ready.Wait()
		}
	}
}

func (w *walk) help() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.hasRoom() {
		w.read()
	}
	w.helping = false
	w.ready.Signal()
}

// hasRoom reports whether there is a group to be read, and room for it. mu is held.
func (w *walk) hasRoom() bool { return !w.over && w.begun-w.done < walkedGroups }

// read reads one group, without mu, which is held before and after.
func (w *walk) read() {
	g := &w.groups[w.begun%walkedGroups]
	run := w.v.view.directory.Run(w.next)
	w.begun++
	w.next = run.Last() + 1
	w.over = w.next == 0
	g.read = false
	w.mu.Unlock()
	defer func() { // also where an Options.FS panics
		w.mu.Lock()
		g.read = true
		w.ready.Signal()
	}()
	g.items = g.items[:0] // after a fault there are none
	g.err = w.v.guard(func() (err error) {
		g.items, err = w.v.view.buckets.Items(g.items, run.Pointer.Bucket)
		return err
	})
}

// end waits for the second goroutine, which ends after the group that it reads.
func (w *walk) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	for w.helping {
		w.ready.Wait()
	}
}
