package wal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cidstore/cidstore/keys"
)

// chooser makes the choices of a program: rapid's, or the bytes of a fuzzer, which
// end with no more crashes.
type chooser interface {
	below(n int) int // in [0, n)
}

type rapidChooser struct{ t *rapid.T }

func (c rapidChooser) below(n int) int { return rapid.IntRange(0, n-1).Draw(c.t, "choice") }

type byteChooser struct{ bytes []byte }

func (c *byteChooser) below(n int) int {
	if len(c.bytes) == 0 {
		return n - 1
	}
	b := c.bytes[0]
	c.bytes = c.bytes[1:]
	return int(b) % n
}

const sector = 512

// disk is a Storage with a page cache that outlives a process and not a power
// cut.
type disk struct {
	choose  chooser
	cache   []byte
	durable []byte
	dirty   map[int]bool // sectors of writes that did not return: new in cache, unknown on the disk
	crashIn int          // the nth write from now ends the process; 0: none does
}

var errCrash = errors.New("the process has ended")

func newDisk(choose chooser, blocks int) *disk {
	size := blocks * programBlock
	return &disk{choose: choose, cache: make([]byte, size), durable: make([]byte, size), dirty: map[int]bool{}}
}

func (d *disk) Size() int64 { return int64(len(d.cache)) }

func (d *disk) ReadAt(p []byte, off int64) (int, error) { return copy(p, d.cache[off:]), nil }

func (d *disk) WriteSync(p []byte, off int64) error {
	if d.crashIn > 0 {
		if d.crashIn--; d.crashIn == 0 {
			for at := 0; at < len(p); at += sector {
				if d.choose.below(4) > 0 {
					copy(d.cache[int(off)+at:], p[at:at+sector])
					d.dirty[(int(off)+at)/sector] = true
				}
			}
			return errCrash
		}
	}
	copy(d.cache[off:], p)
	copy(d.durable[off:], p)
	for at := 0; at < len(p); at += sector {
		delete(d.dirty, (int(off)+at)/sector)
	}
	return nil
}

// powerCut leaves each sector of an unfinished write old, new or garbage.
func (d *disk) powerCut() {
	sectors := make([]int, 0, len(d.dirty))
	for s := range d.dirty {
		sectors = append(sectors, s)
	}
	slices.Sort(sectors)
	for _, s := range sectors {
		here := d.durable[s*sector : (s+1)*sector]
		switch d.choose.below(5) {
		case 0, 1:
			copy(here, d.cache[s*sector:])
		case 2:
			for i := range here {
				here[i] ^= byte(i*37 + s + 1)
			}
		}
	}
	clear(d.dirty)
	copy(d.cache, d.durable)
}

// A block of two sectors, so that one can be torn.
const programBlock = 2 * sector

// slot is what the commit slots of a store say of its log. It is written whole.
type slot struct {
	epochs      []Epoch
	lastApplied Seq
	watermark   Seq
	ring, old   Ring
}

// program is a store that keeps a list of operations: what the tree has, and what
// must or may be in the log.
type program struct {
	choose  chooser
	slot    slot
	log     *Log
	clock   int64
	counter uint64
	all     [][]Op // every frame that is in the tree or the log, oldest first
	frames  int    // how many of them the tree has
	pending int    // how many, at the end, may be lost
	applied []Op   // after those of the tree, by the log's apply and by recovery
}

func newProgram(choose chooser) *program {
	p := &program{choose: choose}
	first := FirstSequence(programBlock)
	p.slot.ring = Ring{Storage: newDisk(choose, 6)}
	p.slot.epochs = []Epoch{{Number: 1, First: first, End: NoEnd, Anchor: [32]byte{1}}}
	p.log = New(p.config(), p.slot.epochs[0], first, first-1, first)
	p.log.SetApply(p.apply)
	return p
}

func (p *program) config() Config {
	return Config{
		UUID: testUUID, Key: []byte("k"), Block: programBlock, Ring: p.slot.ring, Old: p.slot.old,
		Now: func() int64 { p.clock++; return p.clock },
	}
}

func (p *program) apply(_ Seq, _ int64, ops []Op) { p.applied = append(p.applied, ops...) }

// newOps returns operations that no frame had before.
func (p *program) newOps() []Op {
	ops := make([]Op, 1+p.choose.below(20))
	for i := range ops {
		p.counter++
		ops[i] = Op{Insert, keys.FromUint64(p.counter), keys.E{High: p.counter}}
	}
	return ops
}

// disks returns the disks that hold the log.
func (p *program) disks() []*disk {
	disks := []*disk{p.slot.ring.Storage.(*disk)}
	if p.slot.old.Storage != nil {
		disks = append(disks, p.slot.old.Storage.(*disk))
	}
	return disks
}

// step does one thing; recovery has been run when it returns.
func (p *program) step() error {
	switch p.choose.below(12) {
	case 0, 1, 2, 3:
		return p.append(p.log.Append, true)
	case 4, 5, 6:
		return p.append(p.log.AppendAsync, false)
	case 7:
		return p.crashed(p.log.Flush(), true)
	case 8:
		return p.checkpoint()
	case 9:
		return p.grow()
	case 10:
		if err := p.log.Audit(p.choose.below(3), p.choose.below); err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		p.disks()[0].crashIn = 1 + p.choose.below(2)
		return nil
	default: // the process ends between two calls
		return p.recover()
	}
}

func (p *program) append(appendTo func([]Op) (Seq, error), durable bool) error {
	ops := p.newOps()
	if p.log.Room() < RecordsFor(len(ops), programBlock) {
		if err := p.checkpoint(); err != nil {
			return err
		}
	}
	if RecordsFor(len(ops), programBlock) > Records(p.slot.ring.Storage.Size(), programBlock)/3 {
		return fmt.Errorf("the program appends %d operations", len(ops))
	}
	p.all = append(p.all, ops)
	p.pending++
	_, err := appendTo(ops)
	return p.crashed(err, durable)
}

// crashed recovers if err says that the process has ended. durable: else all
// that was accepted is durable.
func (p *program) crashed(err error, durable bool) error {
	switch {
	case errors.Is(err, errCrash) && errors.Is(err, ErrPoisoned):
		return p.recover()
	case err == nil && durable:
		p.pending = 0
	}
	return err
}

// checkpoint puts everything applied into the tree.
func (p *program) checkpoint() error {
	resume := p.log.Pause()
	m := p.log.Mark()
	resume()
	if err := p.log.Failed(); err != nil {
		return p.crashed(err, true)
	}
	p.pending = 0
	p.intoTree(m)
	p.slot.watermark = p.log.Watermark()
	p.log.Truncate(m.Sequence)
	if p.slot.old.Storage != nil && m.Sequence+1 >= p.slot.ring.First {
		p.slot.old = Ring{}
		p.log.DropOld()
	}
	return nil
}

// intoTree makes m the slot's last applied frame.
func (p *program) intoTree(m Mark) {
	p.frames = len(p.all)
	p.applied = nil
	p.slot.lastApplied = m.Sequence
	p.slot.epochs = TrimEpochs(p.slot.epochs, m)
}

// grow gives the log another ring.
func (p *program) grow() error {
	if p.slot.old.Storage != nil {
		return nil
	}
	resume := p.log.Pause()
	if err := p.log.Failed(); err != nil {
		resume()
		return p.crashed(err, true)
	}
	defer resume()
	p.pending = 0
	blocks := len(p.disks()[0].cache) / programBlock
	p.slot.old = p.slot.ring
	p.slot.ring = Ring{newDisk(p.choose, 6+(blocks+p.choose.below(5))%9), p.log.Next()}
	p.slot.watermark = p.log.Watermark()
	return p.log.SwitchRing(p.slot.ring)
}

// recover begins lives until one has begun, with power cuts and crashes between
// and during them, and compares what came back.
func (p *program) recover() error {
	for {
		if p.choose.below(2) == 0 {
			for _, d := range p.disks() {
				d.powerCut()
			}
		}
		crashIn := 0
		if p.choose.below(3) == 0 {
			crashIn = 1 + p.choose.below(2)
		}
		for _, d := range p.disks() {
			d.crashIn = crashIn
		}
		err := p.begin()
		if !errors.Is(err, errCrash) {
			return err
		}
	}
}

// begin is one attempt to begin a life, as the package comment says.
func (p *program) begin() error {
	var found [][]Op
	var late []Frame
	report, err := Scan(p.config(), p.slot.epochs, p.slot.lastApplied, p.slot.watermark, func(f Frame) error {
		if len(f.Ops) == 0 {
			return nil
		}
		ops := slices.Clone(f.Ops)
		found = append(found, ops)
		if f.PastWatermark {
			f.Ops = ops
			late = append(late, f)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	if err := p.compare(found); err != nil {
		return err
	}
	old := p.slot.epochs
	anchor := [32]byte{byte(report.Next), 7}
	epoch, err := NextEpoch(old, report.Next, bytes.NewReader(anchor[:]))
	if err != nil {
		return err
	}
	c := p.config()
	c.After = report.Nanos
	end := report.End.Sequence + 1
	if len(late) > 0 {
		end = report.Watermark + 1
	}
	c.Earlier = EndEpochs(old, p.slot.lastApplied, end)
	log := New(c, epoch, epoch.First, report.Watermark, p.slot.lastApplied+1)
	if err := log.Failed(); err != nil {
		return err
	}
	if len(old) >= 6 || log.Room() < 1 || !c.Fits(late, p.slot.lastApplied+1, report.Next) {
		// No room for their copies: the tree takes everything.
		p.all = p.all[:p.frames+len(found)]
		p.intoTree(report.End)
		p.slot.watermark = max(p.slot.watermark, report.End.Sequence)
		return p.begin()
	}
	if len(late) > 0 {
		p.slot.epochs = append(InUse(old), epoch.Reserved())
		if err := log.WriteAgain(late); err != nil {
			return err
		}
	}
	p.slot.epochs = append(c.Earlier, epoch)
	p.slot.watermark = max(p.slot.watermark, report.Watermark)
	p.all, p.pending = p.all[:p.frames+len(found)], 0
	p.applied = slices.Concat(found...)
	p.log = log
	log.SetApply(p.apply)
	return p.checkLive()
}

// compare holds what Scan found against what was appended: everything that was
// durable, and of what was not a prefix.
func (p *program) compare(found [][]Op) error {
	want := p.all[p.frames:]
	least := len(want) - p.pending
	if len(found) < least || len(found) > len(want) {
		return fmt.Errorf("found %d frames, want from %d to %d", len(found), least, len(want))
	}
	for i := range found {
		if !slices.Equal(found[i], want[i]) {
			return fmt.Errorf("frame %d of %d is another one", i, len(found))
		}
	}
	return nil
}

// checkLive holds the log's own view against the model.
func (p *program) checkLive() error {
	var live []Op
	err := p.log.Replay(func(f Frame) error { live = append(live, f.Ops...); return nil })
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if durable := slices.Concat(p.all[p.frames : len(p.all)-p.pending]...); len(live) < len(durable) || !slices.Equal(live[:len(durable)], durable) {
		return fmt.Errorf("replay has %d operations, want at least %d", len(live), len(durable))
	}
	if want := slices.Concat(p.all[p.frames:]...); !slices.Equal(p.applied, want) {
		return fmt.Errorf("applied %d operations, want %d", len(p.applied), len(want))
	}
	return nil
}

// runProgram runs steps while goOn says so, and recovers.
func runProgram(choose chooser, goOn func(step int) bool) error {
	p := newProgram(choose)
	for i := 0; goOn(i); i++ {
		err := p.step()
		if err == nil {
			err = p.checkLive()
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return p.recover()
}

// Whatever is appended, truncated, grown, torn and recovered: what was durable
// comes back, with a prefix of what was not, and stays.
func TestProgramsSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		must(t, runProgram(rapidChooser{t}, func(step int) bool { return step < 60 }))
	})
}

func FuzzProgram(f *testing.F) {
	f.Add([]byte{0, 5, 4, 3, 4, 2, 7, 10, 0, 0, 0, 7, 1, 1, 1, 0, 9, 0, 3, 8, 0, 1, 11, 0})
	f.Fuzz(func(t *testing.T, choices []byte) {
		choose := &byteChooser{choices}
		must(t, runProgram(choose, func(int) bool { return len(choose.bytes) > 0 }))
	})
}
