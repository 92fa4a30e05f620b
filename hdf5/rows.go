package hdf5

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// rowReader reads rows of a selection, and keeps the buffers of its workers.
type rowReader struct {
	*Dataset
	selection
	workers []*chunkReader
}

func (r *rowReader) close() {
	for _, w := range r.workers {
		w.pipeline.close()
	}
}

func (r *rowReader) read(p []byte, start, count uint64) error {
	if err := r.checkRange(start, count); err != nil {
		return err
	}
	row := r.rowSize()
	if size, ok := product(row, count); !ok || size != uint64(len(p)) {
		return fault(ErrLimit, "rows", -1, "a buffer of %d bytes for %d rows of %d", len(p), count, row)
	}
	if len(p) == 0 {
		return nil
	}
	rows := rowRange{p, start, count}
	l := &r.layout
	switch {
	case l.class == Chunked:
		return r.readChunks(rows)
	case l.class == Compact && len(l.data.data) > 0:
		return r.whole(rows).copy(p, l.data.data)
	case l.class == Contiguous && l.address != undefined:
		offset, err := r.file.offsetOf("contiguous data", l.address, r.space.elements*uint64(r.datatype.Size))
		if err != nil {
			return err
		}
		var g gatherer
		g.reset(r.file, "contiguous data", p)
		if err := g.read(r.whole(rows), offset); err != nil {
			return err
		}
		g.place()
		return nil
	}
	r.fillRows(p)
	return nil
}

// whole returns the overlap of rows with a dataset without chunks, which counts as a single
// chunk.
func (r *rowReader) whole(rows rowRange) *overlap {
	o, shape := new(overlap), r.shape()
	o.set(&r.selection, rows, make([]uint64, len(shape)), shape)
	return o
}

func (r *rowReader) fillRows(p []byte) {
	if r.fill == nil {
		clear(p)
		return
	}
	for n := copy(p, r.fill); n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
}

// rowRange holds which rows of a selection to read, and the bytes to read them into.
type rowRange struct {
	p            []byte
	start, count uint64
}

const leastParallel = 256 << 10 // bytes of chunks that are worth another goroutine

// readChunks reads rows of a chunked dataset. Where there is no chunk it uses the fill
// value.
func (r *rowReader) readChunks(rows rowRange) error {
	g := r.grid
	if g.bytes > uint64(r.file.maxChunk) {
		return r.layout.at.fault(ErrLimit, "chunks of %d bytes, at most %d", g.bytes, r.file.maxChunk)
	}
	x, err := r.chunkIndex()
	if err != nil {
		return err
	}
	band := g.perBand()
	along := r.patterns[0]
	low, high := along.at(rows.start)/g.chunk[0]*band, (along.at(rows.start+rows.count-1)/g.chunk[0]+1)*band
	first, last := x.between(low, high)
	if last-first < high-low {
		r.fillRows(rows.p)
	}
	if first == last {
		return nil
	}
	all, _ := product(last-first, g.bytes)
	n := min(uint64(runtime.GOMAXPROCS(0)), max(1, uint64(r.file.maxChunk)/g.bytes), max(1, all/leastParallel), last-first)
	for uint64(len(r.workers)) < n {
		r.workers = append(r.workers, &chunkReader{Dataset: r.Dataset, selection: &r.selection, pipeline: pipeline{filters: r.filters}, at: make([]uint64, len(g.counts))})
	}
	job := chunkJob{index: x, rows: rows, last: last, step: 1}
	if rank := len(g.counts); len(r.filters) == 0 && rank > 1 {
		job.step = max(1, min(mostAbreast, g.counts[rank-1], (last-first)/n))
	}
	job.next.Store(first)
	var others sync.WaitGroup
	for _, w := range r.workers[1:n] {
		others.Go(func() { job.work(w) })
	}
	job.work(r.workers[0])
	others.Wait()
	return job.err
}

// chunkJob holds chunks that several workers read together.
type chunkJob struct {
	index *chunkIndex
	rows  rowRange
	last  uint64
	step  uint64        // how many chunks a worker takes at a time
	next  atomic.Uint64 // the place of the next chunk that no worker has taken

	// mu guards the first failure in the order of the chunks. All chunks before it
	// were taken before it.
	mu    sync.Mutex
	err   error
	errAt uint64
}

// work reads chunks until there are no more, or one failed.
func (j *chunkJob) work(w *chunkReader) {
	for {
		place := j.next.Add(j.step) - j.step
		if place >= j.last {
			return
		}
		if err := w.readSome(j, place, min(place+j.step, j.last)); err != nil {
			j.next.Store(j.last)
			j.mu.Lock()
			if j.err == nil || place < j.errAt {
				j.err, j.errAt = err, place
			}
			j.mu.Unlock()
			return
		}
	}
}

// chunkReader is one worker. It reads chunks one after another.
type chunkReader struct {
	*Dataset
	selection *selection
	pipeline  pipeline
	strip     strip
	stored    []byte
	at        []uint64 // coordinates of the chunk
	overlap   overlap
	gatherer  gatherer
}

const mostAbreast = 8 // chunks without filters that are copied together

// readSome reads the part of the rows that lies in the chunks from one place of the index
// to another.
func (r *chunkReader) readSome(j *chunkJob, place, end uint64) error {
	for place < end {
		c := j.index.at(r.grid, place, r.at)
		next := place + 1
		var err error
		if len(r.filters) > 0 {
			err = r.read(c, j.rows)
		} else {
			last := len(r.at) - 1
			for beyond := c.number - r.at[last] + r.grid.counts[last]; next < end && j.index.number(next) < beyond; {
				next++
			}
			err = r.readAbreast(j, place, next)
		}
		if err != nil {
			return err
		}
		place = next
	}
	return nil
}

// readAbreast reads the part of the rows that lies in chunks without filters. They have the
// same coordinates, except for the last.
func (r *chunkReader) readAbreast(j *chunkJob, place, end uint64) error {
	g, along := r.grid, r.selection.patterns[0]
	top, band := r.at[0]*g.chunk[0], g.chunk[0]
	if end-place > 1 {
		band = max(1, gatherBytes/(g.bytes/g.chunk[0]))
	}
	row := r.selection.rowSize()
	for low := uint64(0); low < g.chunk[0]; low += band {
		first := max(along.before(sum(top, low)), j.rows.start)
		last := min(along.before(sum(top, min(low+band, g.chunk[0]))), j.rows.start+j.rows.count)
		if first >= last {
			continue
		}
		rows := rowRange{j.rows.p[(first-j.rows.start)*row : (last-j.rows.start)*row], first, last - first}
		r.gatherer.reset(r.file, "chunk", rows.p)
		for i := place; i < end; i++ {
			c := j.index.at(g, i, r.at)
			offset, err := r.file.offsetOf("chunk", c.address, c.size)
			if err != nil {
				return err
			}
			if !r.overlap.set(r.selection, rows, r.at, g.chunk) {
				continue
			}
			if err := r.gatherer.read(&r.overlap, offset); err != nil {
				return err
			}
		}
		r.gatherer.place()
	}
	return nil
}

// read reads the part of the rows that lies in a chunk, and undoes its filters.
func (r *chunkReader) read(c chunk, rows rowRange) error {
	const structure = "chunk"
	offset, err := r.file.offsetOf(structure, c.address, c.size)
	if err != nil {
		return err
	}
	o := &r.overlap
	if !o.set(r.selection, rows, r.at, r.grid.chunk) {
		return nil
	}
	mask := c.mask
	if r.layout.plainEdges && r.isEdge() {
		mask = math.MaxUint32
	}
	r.stored = slices.Grow(r.stored[:0], int(c.size))
	stored := r.stored[:c.size]
	if err := r.file.readAt(stored, offset, structure); err != nil {
		return err
	}
	var whole []byte // where the chunk goes, if it goes to one place
	if o.counted == 0 && o.run == r.grid.bytes {
		whole = rows.p[o.to : o.to+o.run]
	}
	data, shuffled, err := r.pipeline.undo(whole, stored, mask, int(r.grid.bytes))
	switch {
	case err != nil:
		kind := ErrCorrupt
		if errors.Is(err, ErrUnsupported) {
			kind = ErrUnsupported
		}
		return fault(kind, structure, offset, "%v of %d bytes: %w", r.at, c.size, err)
	case shuffled > 0:
		r.strip.begin(data, shuffled)
		return o.runs(func(from, to, n uint64) error {
			r.strip.copy(rows.p[to:to+n], from)
			return nil
		})
	case whole == nil || &data[0] != &whole[0]:
		return o.copy(rows.p, data)
	}
	return nil
}

// isEdge reports whether the chunk sticks out of the dataset.
func (r *chunkReader) isEdge() bool {
	for i, n := range r.at {
		if (n+1)*r.grid.chunk[i] > r.grid.dims[i] {
			return true
		}
	}
	return false
}

// copy copies what is selected from the bytes of the part to the destination.
func (o *overlap) copy(p, data []byte) error {
	return o.runs(func(from, to, n uint64) error {
		copy(p[to:to+n], data[from:from+n])
		return nil
	})
}
