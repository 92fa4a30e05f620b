package hdf5

const signature = "\x89HDF\r\n\x1a\n"

// superblock is the superblock, where reading a file begins (spec II.A).
type superblock struct {
	version                int
	offsetSize, lengthSize int
	flags                  uint32 // bit 0: open for writing, bit 2: by a SWMR writer
	base                   int64  // file offset that all addresses count from
	end                    int64  // file offset of the end
	root                   uint64 // address of the root group's object header
	shared                 sharedTable
}

// readSuperblock searches the signature at 0, 512, 1024, 2048, …, and reads the
// superblock after the first.
func (f *File) readSuperblock() error {
	f.super = superblock{offsetSize: 8, lengthSize: 8, shared: sharedTable{address: undefined}}
	for at := int64(0); at+8 <= f.size; at = max(512, 2*at) {
		var p [8]byte
		if err := f.readAt(p[:], at, "signature"); err != nil {
			return err
		}
		if string(p[:]) == signature {
			f.super.base = at
			return f.parseSuperblock()
		}
	}
	return fault(ErrNotHDF5, "superblock", -1, "no signature at 0 or at 512 times a power of two")
}

// parseSuperblock reads the superblock at the base address.
func (f *File) parseSuperblock() error {
	s, b := &f.super, f.newBudget()
	d := f.read(b, "superblock", 0, uint64(min(f.size-s.base, 136)))
	d.take(8)
	s.version = int(d.version(0, 3))
	base, end, extension := uint64(0), uint64(0), undefined
	if s.version < 2 {
		base, end = d.oldSuperblock(s)
	} else {
		base, end, extension = d.newSuperblock(s)
	}
	if d.err != nil {
		return d.err
	}
	if extension != undefined {
		if err := f.readExtension(b, extension); err != nil {
			return err
		}
	}
	// The place of the signature counts, because the stored base may be stale: a user
	// block may have been put before the file or taken away. The library does the same.
	shift := uint64(s.base) - base
	if end += shift; end > 1<<62 || end < uint64(s.base) {
		return fault(ErrCorrupt, "superblock", s.base, "end of file %#x", end)
	}
	s.end = int64(end)
	if s.end > f.size && !f.OpenForWriting() {
		return fault(ErrCorrupt, "superblock", s.base, "the file has %d bytes, want %d: it was cut", f.size, s.end)
	}
	return nil
}

func (d *decoder) widths(s *superblock) {
	s.offsetSize, s.lengthSize = int(d.u8()), int(d.u8())
	for _, width := range []int{s.offsetSize, s.lengthSize} {
		switch width {
		case 2, 4, 8:
		case 16, 32:
			d.fail(ErrUnsupported, "addresses or lengths of %d bytes", width)
		default:
			d.fail(ErrCorrupt, "addresses or lengths of %d bytes", width)
		}
	}
}

// oldSuperblock reads versions 0 and 1 (spec II.A.1), which have no checksum.
func (d *decoder) oldSuperblock(s *superblock) (base, end uint64) {
	d.take(4) // versions of parts of which there is only one
	d.widths(s)
	d.take(5) // reserved, sizes of old B-tree nodes, which their entries have too
	s.flags = d.u32()
	if s.version == 1 {
		d.take(4)
	}
	base = d.address()
	d.address() // free space
	end = d.address()
	if driver := d.address(); driver != undefined {
		d.fail(ErrUnsupported, "a driver information block: the file is one of several parts")
	}
	d.length() // the name of the root, none
	s.root = d.address()
	return base, end
}

// newSuperblock reads versions 2 and 3 (spec II.A.2).
func (d *decoder) newSuperblock(s *superblock) (base, end, extension uint64) {
	d.widths(s)
	s.flags = uint32(d.u8())
	size := 12 + 4*s.offsetSize + 4
	d.require(size <= len(d.data), "%d bytes, want %d", len(d.data), size)
	d.data = d.data[:min(size, len(d.data))]
	d.unseal()
	base, extension, end = d.address(), d.address(), d.address()
	s.root = d.address()
	return base, end, extension
}

// readExtension reads the superblock extension (spec II.A.2), an object header whose
// messages say more about the file.
func (f *File) readExtension(b *budget, address uint64) error {
	h, err := f.header(b, address)
	if err != nil {
		return err
	}
	for m := range h.messages() {
		switch m.kind {
		case messageSharedTable:
			if f.super.shared = m.body.sharedTable(); m.body.err != nil {
				return m.body.err
			}
		case messageDriver:
			return m.body.fault(ErrUnsupported, "a driver information message: the file is one of several parts")
		}
	}
	return nil
}
