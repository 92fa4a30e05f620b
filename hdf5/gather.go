package hdf5

// gatherer reads what is selected of arrays without filters from the file to where it
// belongs. It keeps its buffers from one call to the next.
//
// Arrays that lie side by side in the destination are read one after another and then copied
// together, run by run: so the destination is written from its beginning to its end.
// Copying one array after another takes a third more time.
type gatherer struct {
	file      *File
	structure string
	p         []byte // the destination

	arrays  []gathered
	waiting []run // of the last array: near each other in the file, to be read together
}

// gathered is what was read of an array, and is not copied yet.
type gathered struct {
	offset int64  // of the array in the file
	buffer []byte // with what was read
	runs   []run  // from the buffer
}

// run is n bytes of an array, or of a buffer, that go to one place.
type run struct{ from, to, n uint64 }

const (
	// gatherBytes is how much is read at once of runs that are not read alone. Reads of an
	// eighth, which the fastest cache would hold, took more processor time: calls cost
	// more than they save.
	gatherBytes = 256 << 10
	gatherRuns  = 4096 // that wait
	// gatherGap is how long a gap may be that is read too, because another call would cost
	// more.
	gatherGap = 4 << 10
)

// reset forgets what was read, and takes a destination.
func (g *gatherer) reset(f *File, structure string, p []byte) {
	g.file, g.structure, g.p, g.arrays, g.waiting = f, structure, p, g.arrays[:0], g.waiting[:0]
}

// read reads what is selected of an array at an offset of the file. It may leave some of it
// to place.
func (g *gatherer) read(o *overlap, offset int64) error {
	if n := len(g.arrays); n < cap(g.arrays) { // with its buffers
		g.arrays = g.arrays[:n+1]
	} else {
		g.arrays = append(g.arrays, gathered{})
	}
	a := &g.arrays[len(g.arrays)-1]
	a.offset, a.buffer, a.runs = offset, a.buffer[:0], a.runs[:0]
	if err := o.runs(g.add); err != nil {
		return err
	}
	return g.flush()
}

// add reads a run, or lets it wait for others.
func (g *gatherer) add(from, to, n uint64) error {
	if len(g.waiting) > 0 {
		first, last := g.waiting[0], g.waiting[len(g.waiting)-1]
		if len(g.waiting) == gatherRuns || from-last.from-last.n > gatherGap || from+n-first.from > gatherBytes {
			if err := g.flush(); err != nil {
				return err
			}
		}
	}
	g.waiting = append(g.waiting, run{from, to, n})
	return nil
}

// flush reads the runs that wait: one alone straight to its place, more into the buffer.
func (g *gatherer) flush() error {
	waiting := g.waiting
	if g.waiting = waiting[:0]; len(waiting) == 0 {
		return nil
	}
	a := &g.arrays[len(g.arrays)-1]
	first, last := waiting[0], waiting[len(waiting)-1]
	offset := a.offset + int64(first.from)
	if len(waiting) == 1 {
		return g.file.readAt(g.p[first.to:first.to+first.n], offset, g.structure)
	}
	size := int(last.from + last.n - first.from)
	if len(a.buffer)+size > gatherBytes || len(a.runs)+len(waiting) > gatherRuns {
		g.place()
	}
	at := len(a.buffer)
	if cap(a.buffer) < at+size {
		a.buffer = append(make([]byte, 0, min(2*(at+size), gatherBytes)), a.buffer...)
	}
	a.buffer = a.buffer[:at+size]
	if err := g.file.readAt(a.buffer[at:], offset, g.structure); err != nil {
		return err
	}
	for _, r := range waiting {
		a.runs = append(a.runs, run{uint64(at) + r.from - first.from, r.to, r.n})
	}
	return nil
}

func (g *gatherer) place() {
	for i, more := 0, true; more; i++ {
		more = false
		for t := range g.arrays {
			a := &g.arrays[t]
			if i < len(a.runs) {
				r := a.runs[i]
				copy(g.p[r.to:r.to+r.n], a.buffer[r.from:])
				more = true
			}
		}
	}
	for t := range g.arrays {
		a := &g.arrays[t]
		a.buffer, a.runs = a.buffer[:0], a.runs[:0]
	}
}
