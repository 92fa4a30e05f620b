package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/cidstore/cidstore"
)

const (
	// batchPairs pairs are applied, and so become durable, together.
	batchPairs = 4096
	// batchRecords bounds the records of one batch where few of them are pairs.
	batchRecords = 16 * batchPairs
	// batchTexts bounds the bytes of rejected records that one batch keeps.
	batchTexts = 8 << 20
	// waitingPortions bounds what is read ahead.
	waitingPortions = 2
	// keptRejects of the rejected records of one import are remembered for printing.
	keptRejects = 10
)

// reject says why a record has no pair, or what is doubtful in it.
type reject struct {
	File   string  `json:"file"`
	Line   int64   `json:"line,omitempty"` // from 1
	Row    *uint64 `json:"row,omitempty"`  // from 0; in tables instead of a line
	Reason string  `json:"reason"`
}

// place returns the file and the place in it.
func (r reject) place() string {
	if r.Row != nil {
		return fmt.Sprintf("%s, row %d", r.File, *r.Row)
	}
	return fmt.Sprintf("%s, line %d", r.File, r.Line)
}

// rejectedText is a line of --rejects, with the record itself.
type rejectedText struct {
	reject
	Text string `json:"text"`
}

// portion holds the pairs of some records of one file.
type portion struct {
	pairs    cidstore.Batch
	file     string
	lastLine int64 // or the number of rows
	bytes    int64 // of all files, packed as they are, read so far
	records  int
	began    time.Time // when the first record came

	rejected  int64
	rejects   []rejectedText // the first keptRejects of them, or all
	textBytes int            // of rejects
	warned    int64          // fields that look like mistyped identifiers
	warnings  []reject       // the first keptRejects of them
	header    bool           // the first record of the file looks like one

	encoding *tally // of the file so far; nil after its first portion
	whole    bool   // nothing more is added
	last     bool   // no portion follows; err says why
	err      error
}

func (p *portion) full() bool {
	return p.pairs.Len() >= batchPairs || p.records >= batchRecords || p.textBytes >= batchTexts
}

// judge returns why the file of the portion is refused, if it is.
func (p *portion) judge() error {
	if p.encoding == nil {
		return nil
	}
	if err := p.encoding.judge(); err != nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	return nil
}

// intake holds what has been read and is not stored yet: complete portions, and one
// under way. The reader adds complete records. The importer may take the portion under
// way at any moment, so that a pause in the input does not delay what came before.
type intake struct {
	mu       sync.Mutex
	room     *sync.Cond
	portions []*portion // the oldest first
	stopped  bool

	changed chan struct{} // there may be a complete portion
}

func newIntake() *intake {
	q := &intake{changed: make(chan struct{}, 1)}
	q.room = sync.NewCond(&q.mu)
	return q
}

// update calls change with the portion under way of a file. Before that it waits while
// too many portions are ready. It reports whether somebody still takes portions.
func (q *intake) update(file string, change func(*portion)) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.portions) > waitingPortions && !q.stopped {
		q.room.Wait()
	}
	if q.stopped {
		return false
	}
	if n := len(q.portions); n == 0 || q.portions[n-1].whole {
		q.portions = append(q.portions, &portion{file: file, began: time.Now()})
	}
	p := q.portions[len(q.portions)-1]
	change(p)
	if p.whole = p.whole || p.full(); p.whole {
		select {
		case q.changed <- struct{}{}:
		default: // the importer knows already
		}
	}
	return true
}

// take returns the oldest portion if it is complete or at least age old, else nil.
func (q *intake) take(age time.Duration) *portion {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.portions) == 0 || !q.portions[0].whole && time.Since(q.portions[0].began) < age {
		return nil
	}
	p := q.portions[0]
	q.portions = q.portions[1:]
	q.room.Signal()
	return p
}

// stop ends the reading; what has been read can still be taken.
func (q *intake) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	q.room.Broadcast()
}
