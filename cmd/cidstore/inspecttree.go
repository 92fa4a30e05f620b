package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/cidstore/cidstore/hdf5"
)

// inspection is one run of inspect.
type inspection struct {
	*program
	path   string
	verify bool
	meter  *meter
	seen   map[uint64]string // paths of objects by address

	printed     int // objects of the JSON list
	damaged     int
	notVerified int
	unpacked    int64  // bytes of elements that were verified
	stopped     string // why the walk ended early
	unread      error  // the first failure of the disk
}

// errMeter ends the walk over a file that needs more reading than any good file.
var errMeter = errors.New("more must be read than any good file needs")

// meter counts what is read, so that the walk ends whatever the file contains. Several
// goroutines may use it at once.
type meter struct {
	file io.ReaderAt
	size int64
	left atomic.Int64
}

func newMeter(file io.ReaderAt, size, left int64) *meter {
	m := &meter{file: file, size: size}
	m.left.Store(left)
	return m
}

// allowance returns how many bytes may be read, and printed, of a file of this size. A
// good file needs little more than its size if all of it is verified. It needs more if
// many objects share a type.
func allowance(size int64) int64 { return 32*size + 64<<20 }

// mostUnpacked returns how many bytes of elements are verified at most. It allows for
// the best ratio that a filter reaches, and for a GiB that was never written.
func mostUnpacked(size int64) int64 { return 2048*size + 1<<30 }

func (m *meter) ReadAt(p []byte, off int64) (int, error) {
	if m.spend(len(p)) {
		return 0, errMeter
	}
	return m.file.ReadAt(p, off)
}

// spend counts n bytes, and reports whether that was too much.
func (m *meter) spend(n int) bool { return m.left.Add(-int64(n)) < 0 }

// node is what is printed for a link, and for its object where that is met first.
type node struct {
	Path       string      `json:"path"`
	Kind       string      `json:"kind"`             // group, dataset, datatype, hard, soft, external, other or unreadable
	Target     string      `json:"target,omitempty"` // of links; for a hard one the path of the object that was met before
	File       string      `json:"file,omitempty"`   // of an external link
	Type       string      `json:"type,omitempty"`
	Shape      []uint64    `json:"shape,omitzero"`
	MaxShape   []*uint64   `json:"max_shape,omitempty"` // null: no limit
	Null       bool        `json:"null,omitempty"`
	Layout     string      `json:"layout,omitempty"`
	Chunk      []uint64    `json:"chunk,omitempty"`
	Index      string      `json:"index,omitempty"`
	Filters    []string    `json:"filters,omitempty"`
	Stored     *uint64     `json:"stored_bytes,omitempty"`
	Verified   string      `json:"verified,omitempty"` // "good", "read" where there is no checksum, "bad: …" or "no: …"
	Attributes []attribute `json:"attributes,omitempty"`
	Errors     []string    `json:"errors,omitempty"`
}

// place is a link to follow. The place of the root has no group.
type place struct {
	group  *hdf5.Group
	link   hdf5.Link
	prefix string // of the path, before the name
}

// keptBytes is about what a link or an attribute takes in memory, without its texts.
const keptBytes = 128

// walk prints the tree. An error comes from a signal or from the output.
func (i *inspection) walk(f *hdf5.File) error {
	for todo := []place{{prefix: "/"}}; len(todo) > 0; {
		if err := i.interrupted(); err != nil {
			return err
		}
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		n := &node{Path: next.prefix + next.link.Name}
		inside := i.visit(f, next, n)
		if err := i.print(n); err != nil {
			return err
		}
		if i.meter.spend(len(n.Path)) {
			i.stopped = fmt.Sprintf("%v: %d bytes of a file of %d", errMeter, allowance(i.meter.size), i.meter.size)
			i.damaged++
			return nil
		}
		slices.Reverse(inside)
		todo = append(todo, inside...)
	}
	return nil
}

// visit describes what a link leads to, and returns the links inside.
func (i *inspection) visit(f *hdf5.File, p place, n *node) []place {
	if p.group != nil && p.link.Kind != hdf5.HardLink {
		n.Kind, n.Target, n.File = "other", p.link.Target, p.link.File
		switch p.link.Kind {
		case hdf5.SoftLink:
			n.Kind = "soft"
		case hdf5.ExternalLink:
			n.Kind = "external"
		}
		return nil
	}
	object, err := openPlace(f, p)
	if err != nil {
		n.Kind = "unreadable"
		i.fault(n, err)
		return nil
	}
	if before, met := i.seen[object.Address()]; met {
		n.Kind, n.Target = "hard", before
		return nil
	}
	i.seen[object.Address()] = n.Path
	n.Kind = kindOf(object)
	i.attributes(n, object)
	switch o := object.(type) {
	case *hdf5.Group:
		return i.links(n, o)
	case *hdf5.Dataset:
		i.dataset(n, o)
	case *hdf5.NamedType:
		n.Type = o.Type().String()
		i.meter.spend(len(n.Type))
	}
	return nil
}

// openPlace opens the object of a hard link, or the root.
func openPlace(f *hdf5.File, p place) (hdf5.Object, error) {
	if p.group == nil {
		return f.Root()
	}
	return p.group.OpenLink(p.link)
}

// fault prints what is wrong with an object.
func (i *inspection) fault(n *node, err error) {
	n.Errors = append(n.Errors, faultText(err))
	i.meter.spend(len(err.Error()))
	i.count(err)
}

// faultText returns the text that is printed for an error where it is met.
func faultText(err error) string { return cutText(strings.TrimPrefix(err.Error(), "hdf5: ")) }

// count counts an error as damage, unless this program merely cannot read the object.
func (i *inspection) count(err error) {
	switch {
	case errors.Is(err, errMeter), isNotRead(err):
		// The walk reports it at its end, or the object is valid.
	case isAny(err, hdf5.ErrCorrupt, hdf5.ErrNotFound, hdf5.ErrWrongType):
		i.damaged++
	case i.unread == nil:
		i.unread = err
	}
}

// isNotRead reports whether an error concerns something valid that cannot be read.
func isNotRead(err error) bool { return isAny(err, hdf5.ErrUnsupported, hdf5.ErrLimit) }

// links returns the links of a group.
func (i *inspection) links(n *node, g *hdf5.Group) (inside []place) {
	prefix := strings.TrimSuffix(n.Path, "/") + "/"
	for link, err := range g.Links() {
		if err != nil {
			i.fault(n, err)
			break
		}
		if i.meter.spend(keptBytes + len(link.Name) + len(link.Target) + len(link.File)) {
			break
		}
		inside = append(inside, place{g, link, prefix})
	}
	return inside
}

// dataset describes a dataset, and verifies it if --verify is given.
func (i *inspection) dataset(n *node, d *hdf5.Dataset) {
	n.Type, n.Null = d.Type().String(), d.IsNull()
	i.meter.spend(len(n.Type))
	if !n.Null {
		n.Shape = append([]uint64{}, d.Shape()...)
	}
	for _, most := range d.MaxShape() {
		var limit *uint64
		if most != hdf5.Unlimited {
			limit = &most
		}
		n.MaxShape = append(n.MaxShape, limit)
	}
	n.Layout, n.Chunk = d.Layout().String(), d.ChunkShape()
	if n.Chunk != nil {
		n.Index = d.Index().String()
	}
	for _, filter := range d.Filters() {
		text := filter.String()
		if len(filter.Values) > 0 {
			text += " " + strings.Trim(fmt.Sprint(filter.Values[:min(len(filter.Values), 8)]), "[]")
		}
		n.Filters = append(n.Filters, text)
	}
	if n.Null {
		return
	}
	if size, err := d.StoredSize(); err != nil {
		i.fault(n, err)
	} else {
		n.Stored = &size
	}
	if i.verify {
		i.verifyDataset(n, d)
	}
}

// Of the bad chunks of a dataset the first are printed. After many the search ends.
const (
	toldBad = 10
	mostBad = 1000
)

// verifyDataset reads all elements. After a bad chunk it goes on with the next row of
// chunks.
func (i *inspection) verifyDataset(n *node, d *hdf5.Dataset) {
	height := uint64(1) << 62 // of a row of chunks
	if n.Chunk != nil {
		height = max(n.Chunk[0], 1)
	}
	bad := make(map[string]bool) // by their messages: one may be met again
	failures := 0
	for next := uint64(0); next < d.Len() && i.ctx.Err() == nil; failures++ {
		read, err := i.readRows(d, next)
		if err == nil {
			break
		}
		if isNotRead(err) || errors.Is(err, errMeter) || failures == mostBad {
			n.Verified = "no: " + faultText(err)
			i.notVerified++
			return
		}
		if text := err.Error(); !bad[text] {
			if bad[text] = true; len(bad) <= toldBad {
				n.Errors = append(n.Errors, faultText(err))
			}
			i.count(err)
		}
		next = ((next+read)/height + 1) * height
	}
	switch {
	case len(bad) > 0:
		n.Verified = fmt.Sprintf("bad: %d places", len(bad))
	case slices.ContainsFunc(d.Filters(), func(f hdf5.Filter) bool { return f.ID == fletcher32 }):
		n.Verified = "good"
	default:
		n.Verified = "read"
	}
}

// fletcher32 is the filter that keeps a checksum with each chunk.
const fletcher32 = 3

// readRows reads rows up to the end or to an error, and returns how many it read.
func (i *inspection) readRows(d *hdf5.Dataset, from uint64) (read uint64, err error) {
	for block, err := range d.Rows(from, d.Len()-from) {
		if err != nil {
			return read, err
		}
		read += uint64(block.Rows)
		if i.unpacked += int64(len(block.Data)); i.unpacked > mostUnpacked(i.meter.size) {
			return read, fmt.Errorf("%w: all elements together unpack to more than %d bytes", hdf5.ErrLimit, mostUnpacked(i.meter.size))
		}
		if i.ctx.Err() != nil {
			return read, nil // the walk ends
		}
	}
	return read, nil
}

// print prints a node, as an object of the JSON list or as lines.
func (i *inspection) print(n *node) error {
	if i.json {
		return i.printJSON(n)
	}
	fmt.Fprintf(i.out, "%s%s\n", shown(n.Path), n.words())
	for _, a := range n.Attributes {
		fmt.Fprintf(i.out, "    @%s\n", a.words())
	}
	for _, text := range n.Errors {
		fmt.Fprintf(i.out, "    ! %s\n", text)
	}
	_, err := i.out.Write(nil) // a failure stays
	return err
}

func (i *inspection) printJSON(n *node) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if i.printed++; i.printed > 1 {
		text = append([]byte(","), text...)
	}
	_, err = i.out.Write(text)
	return err
}

// words returns the text after the path.
func (n *node) words() string {
	switch n.Kind {
	case "hard":
		return " = " + shown(n.Target)
	case "soft":
		return " -> " + shown(n.Target)
	case "external":
		return " -> " + shown(n.File) + ":" + shown(n.Target)
	case "other":
		return ": user-defined link"
	case "datatype":
		return ": datatype " + cutText(n.Type)
	case "dataset":
		return ": dataset " + n.datasetWords()
	}
	return ": " + n.Kind
}

func (n *node) datasetWords() string {
	words := []string{shapeText(n.Shape, n.MaxShape) + " " + cutText(n.Type), n.Layout}
	if n.Null {
		words[0] = "null " + cutText(n.Type)
	}
	if n.Chunk != nil {
		words[1] += " " + shapeText(n.Chunk, nil) + " " + n.Index
	}
	for _, filter := range n.Filters {
		words = append(words, cutText(filter))
	}
	if n.Stored != nil {
		words = append(words, fmt.Sprintf("%d bytes", *n.Stored))
	}
	if n.Verified != "" {
		words = append(words, "verified: "+cutText(n.Verified))
	}
	return strings.Join(words, ", ")
}

// shapeText returns a shape and, if it differs, the maximum shape after a slash.
func shapeText(shape []uint64, most []*uint64) string {
	var now, limit []string
	grows := false
	for k, n := range shape {
		now, limit = append(now, fmt.Sprint(n)), append(limit, "*")
		if k < len(most) && most[k] != nil {
			limit[k] = fmt.Sprint(*most[k])
		}
		grows = grows || k < len(most) && limit[k] != now[k]
	}
	text := "(" + strings.Join(now, ", ") + ")"
	if grows {
		text += "/(" + strings.Join(limit, ", ") + ")"
	}
	return text
}
