package gc

import (
	"errors"
	"fmt"

	"github.com/cidstore/cidstore/hdf5io"
	"github.com/cidstore/cidstore/internal/corrupt"
)

const (
	logPath   = "/deletion_log"
	chunkRows = 128
)

// Demand returns a bound of the bytes that adding n rows places and of the longest piece, if
// those that there are stay or are all dropped; and which chunks are named or deleted.
func Demand(n uint64) (bytes, piece int64, edit hdf5io.Edit) {
	piece = chunkRows*RecordSize + hdf5io.ExtentUnit
	chunks := int64(n/chunkRows + min(n, 2))
	return chunks * piece, piece, hdf5io.Edit{N: chunks, Any: true, Of: []string{logPath}}
}

// CreateDatasets makes the empty log of a new store.
func CreateDatasets(tx *hdf5io.Tx) error {
	_, err := tx.CreateDataset(logPath, hdf5io.DatasetSpec{
		Type: recordType(), Dims: []uint64{0}, MaxDims: []uint64{hdf5io.Unlimited}, Chunk: []uint32{chunkRows}, Fletcher32: true,
		Attributes: hdf5io.Described("deletions not yet collected, oldest first; flags bit 0: the whole key",
			"timestamp: seconds since 1970")})
	if err != nil {
		return fmt.Errorf("deletion log: create: %w", err)
	}
	return nil
}

// DeletionLog is the log as one View has it, together with what the one Tx that
// begins at that View has done to it so far. Scan is safe for concurrent use as
// long as nobody calls Append or Clear. After a commit or an abort, open the log
// again.
type DeletionLog struct {
	view *hdf5io.View
	rows uint64 // of the view, then of the transaction
	// tail is the last chunk, if it is not full, once a transaction has changed the
	// log: what the transaction placed cannot be read back before its commit.
	tail    []byte
	changed bool
}

// Open returns the log of a view; rows is the number that the store record gives.
func Open(view *hdf5io.View, rows uint64) *DeletionLog { return &DeletionLog{view: view, rows: rows} }

// Scan yields the rows of the view, the oldest first, until yield returns false. i
// counts from 0. Scan does not see what a transaction did.
func (l *DeletionLog) Scan(yield func(i uint64, r Record) bool) error { return l.ScanFrom(0, yield) }

// ScanFrom is Scan beginning at row from.
func (l *DeletionLog) ScanFrom(from uint64, yield func(i uint64, r Record) bool) error {
	if l.changed {
		return errors.New("deletion log: scan inside a transaction that changed it")
	}
	return l.chunks(from, func(first uint64, data []byte) (bool, error) {
		for i := int(max(from, first)-first) * RecordSize; i < len(data); i += RecordSize {
			r, err := parseRecord(data[i : i+RecordSize])
			if err != nil {
				return false, fmt.Errorf("deletion log: row %d: %w", first+uint64(i/RecordSize), err)
			}
			if !yield(first+uint64(i/RecordSize), r) {
				return false, nil
			}
		}
		return true, nil
	})
}

// chunks visits the used bytes of every chunk, beginning with the one that holds
// row from.
func (l *DeletionLog) chunks(from uint64, visit func(first uint64, data []byte) (bool, error)) error {
	if from >= l.rows {
		return nil
	}
	d, err := l.view.Dataset(logPath)
	if err != nil {
		return fmt.Errorf("deletion log: %w", err)
	}
	if dims := d.Dims(); len(dims) != 1 || dims[0] != l.rows || !d.Type().Equal(recordType()) {
		return corrupt.Errorf(logPath, d.Offset(), "dimensions %d of %v, want [%d] of %v", dims, d.Type(), l.rows, recordType())
	}
	for first := from / chunkRows * chunkRows; first < l.rows; first += chunkRows {
		data, err := d.Read(first / chunkRows)
		if err != nil {
			return fmt.Errorf("deletion log: chunk %d: %w", first/chunkRows, err)
		}
		if len(data) != chunkRows*RecordSize {
			return corrupt.Errorf(logPath, d.Offset(), "chunk %d of %d bytes, want %d", first/chunkRows, len(data), chunkRows*RecordSize)
		}
		more, err := visit(first, data[:min(l.rows-first, chunkRows)*RecordSize])
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// Append adds rows after the last one, in tx, which begins at the log's view. It
// returns how many rows there are then, for the store record.
func (l *DeletionLog) Append(tx *hdf5io.Tx, rows []Record) (newRows uint64, err error) {
	if len(rows) == 0 {
		return l.rows, nil
	}
	if err := l.change(); err != nil {
		return 0, err
	}
	d, err := tx.Dataset(logPath)
	if err != nil {
		return 0, fmt.Errorf("deletion log: append: %w", err)
	}
	w := appender{d: d, chunk: l.tail, rows: l.rows}
	for _, r := range rows {
		if err := w.add(r.append); err != nil {
			return 0, fmt.Errorf("deletion log: append: %w", err)
		}
	}
	return l.finish(&w, "append")
}

// Clear drops the rows below through, which were handled, in tx, which begins at
// the log's view and has not appended to the log yet. Later rows move to the front.
// It returns how many rows are left, for the store record.
func (l *DeletionLog) Clear(tx *hdf5io.Tx, through uint64) (newRows uint64, err error) {
	if l.changed {
		return 0, errors.New("deletion log: clear after another change of the same transaction")
	}
	if through = min(through, l.rows); through == 0 {
		return l.rows, nil
	}
	d, err := tx.Dataset(logPath)
	if err != nil {
		return 0, fmt.Errorf("deletion log: clear: %w", err)
	}
	w := appender{d: d}
	err = l.chunks(through, func(first uint64, data []byte) (bool, error) {
		if first < through {
			data = data[(through-first)*RecordSize:]
		}
		for ; len(data) > 0; data = data[RecordSize:] {
			row := data[:RecordSize]
			if err := w.add(func(dst []byte) []byte { return append(dst, row...) }); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return 0, fmt.Errorf("deletion log: clear: %w", err)
	}
	for k := chunksOf(w.rows); k < chunksOf(l.rows); k++ {
		d.Delete(k)
	}
	l.changed = true
	return l.finish(&w, "clear")
}

// change prepares the first change of a transaction. It reads the last chunk if
// that is not full.
func (l *DeletionLog) change() error {
	if l.changed {
		return nil
	}
	if l.rows%chunkRows != 0 {
		err := l.chunks(l.rows-1, func(_ uint64, data []byte) (bool, error) {
			l.tail = append(l.tail[:0], data...)
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	l.changed = true
	return nil
}

// finish writes the last chunk and the new length.
func (l *DeletionLog) finish(w *appender, what string) (uint64, error) {
	if err := w.flush(); err != nil {
		return 0, fmt.Errorf("deletion log: %s: %w", what, err)
	}
	if err := w.d.Resize(w.rows); err != nil {
		return 0, fmt.Errorf("deletion log: %s: %w", what, err)
	}
	l.rows, l.tail = w.rows, w.chunk
	return l.rows, nil
}

func chunksOf(rows uint64) uint64 { return (rows + chunkRows - 1) / chunkRows }

// appender writes rows into chunks.
type appender struct {
	d     *hdf5io.TxDataset
	chunk []byte // rows of the chunk that is not full yet
	rows  uint64 // including those in chunk
}

func (w *appender) add(encode func(dst []byte) []byte) error {
	w.chunk = encode(w.chunk)
	w.rows++
	if w.rows%chunkRows != 0 {
		return nil
	}
	if _, err := w.d.Write(w.chunk, w.rows/chunkRows-1); err != nil {
		return err
	}
	w.chunk = w.chunk[:0]
	return nil
}

// flush writes the chunk that is not full, with zeros after its rows.
func (w *appender) flush() error {
	if len(w.chunk) == 0 {
		return nil
	}
	full := append(make([]byte, 0, chunkRows*RecordSize), w.chunk...)
	_, err := w.d.Write(full[:chunkRows*RecordSize], w.rows/chunkRows)
	return err
}
