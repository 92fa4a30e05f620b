package hdf5

import (
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// rowReader reads rows of one dataset, and keeps the buffers of its workers.
type rowReader struct {
	*Dataset
	workers []*chunkReader
}

// close frees what the workers hold.
func (r *rowReader) close() {
	for _, w := range r.workers {
		w.pipeline.close()
	}
}

// checkRange refuses rows that the dataset does not have.
func (d *Dataset) checkRange(start, count uint64) error {
	if n := d.Len(); start > n || count > n-start {
		return fault(ErrLimit, "rows", -1, "%d rows from %d of %d", count, start, n)
	}
	return nil
}

// read reads count rows from start on into p.
func (r *rowReader) read(p []byte, start, count uint64) error {
	if err := r.checkRange(start, count); err != nil {
		return err
	}
	row := r.RowSize()
	if size, ok := product(row, count); !ok || size != uint64(len(p)) {
		return fault(ErrLimit, "rows", -1, "a buffer of %d bytes for %d rows of %d", len(p), count, row)
	}
	if len(p) == 0 {
		return nil
	}
	l := &r.layout
	switch {
	case l.class == Chunked:
		return r.readChunks(rowRange{p, start, count})
	case l.class == Compact && len(l.data.data) > 0:
		copy(p, l.data.data[start*row:])
		return nil
	case l.class == Contiguous && l.address != undefined:
		offset, err := r.file.offsetOf("contiguous data", l.address, r.space.elements*uint64(r.datatype.Size))
		if err != nil {
			return err
		}
		return r.file.readAt(p, offset+int64(start*row), "contiguous data")
	}
	r.fillRows(p)
	return nil
}

// fillRows fills p with the fill value.
func (r *rowReader) fillRows(p []byte) {
	if r.fill == nil {
		clear(p)
		return
	}
	for n := copy(p, r.fill); n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
}

// rowRange holds which rows of a dataset to read, and the bytes to read them into.
type rowRange struct {
	p            []byte
	start, count uint64
}

// leastParallel is how many bytes of chunks are worth another goroutine.
const leastParallel = 256 << 10

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
	low, high := rows.start/g.chunk[0]*band, ((rows.start+rows.count-1)/g.chunk[0]+1)*band
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
		r.workers = append(r.workers, &chunkReader{Dataset: r.Dataset, pipeline: pipeline{filters: r.filters}, at: make([]uint64, len(g.counts))})
	}
	job := chunkJob{index: x, rows: rows, last: last}
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
		place := j.next.Add(1) - 1
		if place >= j.last {
			return
		}
		if err := w.read(j.index.at(w.grid, place, w.at), j.rows); err != nil {
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
	pipeline pipeline
	stored   []byte
	at       []uint64 // coordinates of the chunk
}

// read reads the part of the rows that a chunk has, and undoes its filters.
func (r *chunkReader) read(c chunk, rows rowRange) error {
	const structure = "chunk"
	offset, err := r.file.offsetOf(structure, c.address, c.size)
	if err != nil {
		return err
	}
	mask := c.mask
	if r.layout.plainEdges && r.isEdge() {
		mask = math.MaxUint32
	}
	from, direct := r.piece(rows)
	if len(r.filters) == 0 && direct != nil {
		return r.file.readAt(direct, offset+int64(from), structure)
	}
	if len(r.filters) == 0 && c.size == r.grid.bytes {
		return r.readBands(offset, rows)
	}
	stored := r.buffer(c.size)
	if err := r.file.readAt(stored, offset, structure); err != nil {
		return err
	}
	data, err := r.pipeline.undo(direct, stored, mask, int(r.grid.bytes))
	switch {
	case err != nil:
		kind := ErrCorrupt
		if errors.Is(err, ErrUnsupported) {
			kind = ErrUnsupported
		}
		return fault(kind, structure, offset, "%v of %d bytes: %w", r.at, c.size, err)
	case direct == nil:
		r.paste(rows, data, r.at[0]*r.grid.chunk[0], r.grid.chunk[0])
	case &data[0] != &direct[0]:
		copy(direct, data[from:])
	}
	return nil
}

// bandBytes is how much of a chunk without filters is read at once. Reads of an eighth, which
// the fastest cache would hold, took more processor time: calls cost more than they save.
const bandBytes = 256 << 10

// readBands reads the part of the rows that a chunk without filters has, at an offset of
// the file. It reads a few rows of the chunk at a time, and no others.
func (r *chunkReader) readBands(offset int64, rows rowRange) error {
	g := r.grid
	top, size := r.at[0]*g.chunk[0], g.bytes/g.chunk[0]
	low, high := max(top, rows.start), min(top+g.chunk[0], g.dims[0], rows.start+rows.count)
	most := max(1, bandBytes/size)
	for low < high {
		n := min(most, high-low)
		band := r.buffer(n * size)
		if err := r.file.readAt(band, offset+int64((low-top)*size), "chunk"); err != nil {
			return err
		}
		r.paste(rows, band, low, n)
		low += n
	}
	return nil
}

// buffer returns size bytes that last until the next call.
func (r *chunkReader) buffer(size uint64) []byte {
	if uint64(cap(r.stored)) < size {
		r.stored = make([]byte, size)
	}
	return r.stored[:size]
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

// piece returns the part of the destination that the chunk fills, and where that part begins
// in the chunk. It returns nil unless the part is in one piece on both sides.
func (r *chunkReader) piece(rows rowRange) (from uint64, direct []byte) {
	g := r.grid
	for i := 1; i < len(g.dims); i++ {
		if g.chunk[i] != g.dims[i] {
			return 0, nil
		}
	}
	row := r.RowSize()
	top := r.at[0] * g.chunk[0]
	low, high := max(top, rows.start), min(top+g.chunk[0], g.dims[0], rows.start+rows.count)
	return (low - top) * row, rows.p[(low-rows.start)*row : (high-rows.start)*row]
}

// paste copies the part of the rows that a chunk has. data holds count rows of the chunk,
// from row first of the dataset on. It copies runs along the last dimension, and counts up
// the coordinates of the others.
func (r *chunkReader) paste(rows rowRange, data []byte, first, count uint64) {
	g, at, rank, element := r.grid, r.at, len(r.at), uint64(r.datatype.Size)
	var space [5][maxRank]uint64
	low, high, from, to, position := space[0][:rank], space[1][:rank], space[2][:rank], space[3][:rank], space[4][:rank]
	for i := range at { // in the dataset
		low[i] = at[i] * g.chunk[i]
		high[i] = min(low[i]+g.chunk[i], g.dims[i])
	}
	low[0], high[0] = max(first, rows.start), min(high[0], first+count, rows.start+rows.count)
	from[rank-1], to[rank-1] = element, element // bytes of a step along each dimension
	for i := rank - 2; i >= 0; i-- {
		from[i], to[i] = from[i+1]*g.chunk[i+1], to[i+1]*g.dims[i+1]
	}
	run := (high[rank-1] - low[rank-1]) * element
	copy(position, low)
	for {
		var source, target uint64
		for i, n := range position {
			source += (n - at[i]*g.chunk[i]) * from[i]
			target += n * to[i]
		}
		source -= (first - at[0]*g.chunk[0]) * from[0]
		target -= rows.start * to[0]
		copy(rows.p[target:target+run], data[source:source+run])
		i := rank - 2
		for ; i >= 0; i-- {
			if position[i]++; position[i] < high[i] {
				break
			}
			position[i] = low[i]
		}
		if i < 0 {
			return
		}
	}
}
