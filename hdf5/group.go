package hdf5

import (
	"cmp"
	"iter"
	"strings"
	"sync"

	"github.com/cidstore/cidstore/internal/hdf5sum"
)

// Group holds links to objects.
type Group struct {
	objectHeader

	mu    sync.Mutex
	names *localHeap // of a symbol table, once it was read
	dense *denseLinks
}

// Links yields the group's links in the order of the file. Old files are sorted by name;
// in others the order has no meaning. An error ends the walk.
func (g *Group) Links() iter.Seq2[Link, error] {
	return func(yield func(Link, error) bool) {
		err := g.walkLinks(g.file.newBudget(), nil, func(l Link) error {
			if !yield(l, nil) {
				return errDone
			}
			return nil
		})
		if err != nil {
			yield(Link{}, err)
		}
	}
}

// Link returns the link with a name, or ErrNotFound if there is none.
func (g *Group) Link(name string) (Link, error) {
	var found Link
	err := g.walkLinks(g.file.newBudget(), &name, func(l Link) error {
		if l.Name == name {
			found = l
			return errDone
		}
		return nil
	})
	if err == nil && found.Name == "" {
		err = within(g.path, fault(ErrNotFound, "group", g.offset, "no link %q", name))
	}
	return found, err
}

// walkLinks calls visit for each link. If a name is wanted, it may leave out links of
// other names.
func (g *Group) walkLinks(b *budget, wanted *string, visit func(Link) error) error {
	for m := range g.messages() {
		var err error
		switch m.kind {
		case messageLink:
			body := g.file.resolve(b, m)
			l := body.link()
			if err = body.err; err == nil {
				err = visit(l)
			}
		case messageLinkInfo:
			var s *denseLinks
			if s, err = g.denseStorage(b, m.body); s != nil {
				err = s.walk(b, wanted, visit)
			}
		case messageSymbolTable:
			err = g.symbolTable(b, m.body, wanted, visit)
		}
		if err != nil {
			return within(g.path, done(err))
		}
	}
	return nil
}

// denseLinks is the dense storage of a group's links. The heap's blocks are kept with
// the group: every search for a name needs one of them.
type denseLinks struct {
	mu   sync.Mutex // of the heap
	heap *fractalHeap
	tree *tree2
}

// denseStorage returns the storage that a link info message names (spec IV.A.2.c),
// which is opened once; nil if it names none.
func (g *Group) denseStorage(b *budget, d decoder) (*denseLinks, error) {
	d.version(0, 0)
	if flags := d.u8(); flags&1 != 0 {
		d.take(8) // largest creation order
	}
	heapAddress, treeAddress := d.address(), d.address()
	if d.err != nil || heapAddress == undefined {
		return nil, d.err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dense == nil {
		heap, err := g.file.fractalHeap(b, heapAddress)
		if err != nil {
			return nil, err
		}
		tree, err := g.file.tree2(b, treeAddress, 5)
		if err != nil {
			return nil, err
		}
		g.dense = &denseLinks{heap: heap, tree: tree}
	}
	return g.dense, nil
}

// walk walks through the links, or some among which is the one that is wanted.
func (s *denseLinks) walk(b *budget, wanted *string, visit func(Link) error) error {
	var compare func(decoder) int
	if wanted != nil {
		compare = hashCompare(*wanted, 0)
	}
	tree := *s.tree
	tree.b = b
	return tree.each(compare, func(r decoder) error {
		hash := r.u32()
		s.mu.Lock()
		s.heap.b = b
		d := s.heap.object(r.part("heap id", uint64(s.heap.idSize)))
		s.mu.Unlock()
		l := d.link()
		if d.err != nil {
			return d.err
		}
		if got := hdf5sum.Lookup3([]byte(l.Name)); got != hash {
			return r.corrupt("hash %08x of link %q, want %08x", hash, l.Name, got)
		}
		return visit(l)
	})
}

// hashCompare compares the hash at a place of a B-tree's record with that of a name.
func hashCompare(name string, at uint64) func(decoder) int {
	wanted := hdf5sum.Lookup3([]byte(name))
	return func(r decoder) int {
		r.take(at)
		return cmp.Compare(r.u32(), wanted)
	}
}

// symbolTable walks through the links of a symbol table message (spec IV.A.2.r).
func (g *Group) symbolTable(b *budget, d decoder, wanted *string, visit func(Link) error) error {
	f := g.file
	treeAddress, heapAddress := d.address(), d.address()
	if d.err != nil {
		return d.err
	}
	heap, err := g.localNames(b, heapAddress)
	if err != nil {
		return err
	}
	tree := tree1{file: f, b: b, kind: 0, keySize: uint64(f.super.lengthSize)}
	if wanted != nil {
		tree.enter = func(left, right decoder) (bool, error) {
			low, err := heap.text(left.length())
			if err != nil {
				return false, err
			}
			high, err := heap.text(right.length())
			return low < *wanted && *wanted <= high, err
		}
	}
	tree.visit = func(_ decoder, child uint64) error {
		head := f.signed(b, "symbol table node", "SNOD", child, 8)
		head.version(1, 1)
		head.take(1)
		n := uint64(head.u16())
		if head.err != nil {
			return head.err
		}
		d := f.read(b, "symbol table node", child+8, n*uint64(f.super.lengthSize+f.super.offsetSize+24))
		for d.left() > 0 && d.err == nil {
			l := d.symbol(heap)
			if d.err == nil {
				d.err = b.spend("link", d.start, uint64(len(l.Name)+len(l.Target)))
			}
			if d.err == nil {
				d.err = visit(l)
			}
		}
		return d.err
	}
	return tree.walk(treeAddress)
}

// localNames returns the group's local heap, which is read once.
func (g *Group) localNames(b *budget, address uint64) (*localHeap, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.names == nil {
		names, err := g.file.localHeap(b, address)
		if err != nil {
			return nil, err
		}
		g.names = names
	}
	return g.names, nil
}

// Open opens the object at a path from this group or, if the path begins with a slash, from
// the root. It follows soft links. The error is ErrNotFound for a missing link, even one
// that a soft link needs, ErrUnsupported for an external link, and ErrLimit for soft links
// in a circle.
func (g *Group) Open(path string) (Object, error) {
	r := resolver{file: g.file, original: path}
	return r.open(g, path)
}

// OpenLink opens the object of a link of this group, as Open does, but without searching
// for its name.
func (g *Group) OpenLink(l Link) (Object, error) {
	r := resolver{file: g.file, original: l.Name}
	return r.follow(g, l)
}

// Group opens a group as Open does. Any other object is an ErrWrongType.
func (g *Group) Group(path string) (*Group, error) { return openAs[*Group](g, path) }

// Dataset opens a dataset as Open does. Any other object is an ErrWrongType.
func (g *Group) Dataset(path string) (*Dataset, error) { return openAs[*Dataset](g, path) }

func openAs[T Object](g *Group, path string) (T, error) {
	var want T
	object, err := g.Open(path)
	if err != nil {
		return want, err
	}
	opened, ok := object.(T)
	if !ok {
		return want, within(object.Path(), fault(ErrWrongType, "object", -1, "a %s, want a %s", kindOf(object), kindOf(want)))
	}
	return opened, nil
}

// These limits hold for one Open: links to follow, and soft links among them.
const (
	maxPathLinks = 2000
	maxSoftLinks = 32
)

type resolver struct {
	file        *File
	original    string
	links, soft int
}

// open opens the object at a path from a group or, with a slash before it, from the root.
func (r *resolver) open(group *Group, path string) (Object, error) {
	var at Object = group
	if strings.HasPrefix(path, "/") {
		root, err := r.file.Root()
		if err != nil {
			return nil, err
		}
		at = root
	}
	for _, name := range components(path) {
		group, ok := at.(*Group)
		if !ok {
			return nil, within(at.Path(), fault(ErrNotFound, "path", -1, "no %q in a %s", name, kindOf(at)))
		}
		if r.links++; r.links > maxPathLinks {
			return nil, fault(ErrLimit, "path", -1, "more than %d links to follow from %q", maxPathLinks, r.original)
		}
		l, err := group.Link(name)
		if err != nil {
			return nil, err
		}
		if at, err = r.follow(group, l); err != nil {
			return nil, err
		}
	}
	return at, nil
}

func (r *resolver) follow(group *Group, l Link) (Object, error) {
	path := join(group.path, l.Name)
	switch l.Kind {
	case HardLink:
		return r.file.object(r.file.newBudget(), l.address, path)
	case SoftLink:
		if r.soft++; r.soft > maxSoftLinks {
			return nil, within(path, fault(ErrLimit, "soft link", -1, "more than %d soft links to follow from %q: a circle", maxSoftLinks, r.original))
		}
		return r.open(group, l.Target)
	case ExternalLink:
		return nil, within(path, fault(ErrUnsupported, "external link", -1, "to %q in the file %q", l.Target, l.File))
	}
	return nil, within(path, fault(ErrUnsupported, "link", -1, "of type %d", l.Kind))
}
