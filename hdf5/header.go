package hdf5

import "iter"

// Types of header messages (spec IV.A.2).
const (
	messageNil           = 0x00
	messageDataspace     = 0x01
	messageLinkInfo      = 0x02
	messageDatatype      = 0x03
	messageOldFill       = 0x04
	messageFill          = 0x05
	messageLink          = 0x06
	messageExternal      = 0x07
	messageLayout        = 0x08
	messageFilters       = 0x0b
	messageAttribute     = 0x0c
	messageSharedTable   = 0x0f
	messageContinuation  = 0x10
	messageSymbolTable   = 0x11
	messageDriver        = 0x14
	messageAttributeInfo = 0x15
	messageFileSpace     = 0x17 // the last that is known
)

// Flags of header messages.
const (
	messageShared      = 1 << 1
	messageMustBeKnown = 1 << 7 // do not open the object without knowing the message
)

// header is an object header (spec IV.A.1). It says where the messages of an object are.
type header struct {
	file          *File
	address       uint64
	offset        int64
	version       int
	creationOrder bool      // version 2: each message has its creation order
	blocks        []decoder // bytes with messages alone, in order
}

type message struct {
	kind  int
	flags byte
	body  decoder
}

// header reads the object header at an address with all continuations.
func (f *File) header(b *budget, address uint64) (*header, error) {
	first := f.read(b, "object header", address, 4)
	if first.err != nil {
		return nil, first.err
	}
	h := &header{file: f, address: address, offset: first.start, version: 1}
	messages := h.old
	if string(first.data) == "OHDR" {
		h.version, messages = 2, h.new
	}
	if err := h.add(messages(b)); err != nil {
		return nil, err
	}
	// A continuation is found while the blocks before it are looked through.
	for i := 0; i < len(h.blocks); i++ {
		block := h.blocks[i]
		for block.left() > 0 {
			m, ok := h.next(&block)
			if block.err != nil {
				return nil, block.err
			}
			if !ok {
				break
			}
			if err := h.check(b, m); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// check follows a continuation, and refuses unknown messages that must not be skipped.
func (h *header) check(b *budget, m message) error {
	switch {
	case m.kind == messageContinuation:
		return h.continuation(b, m.body)
	case m.kind > messageFileSpace && m.flags&messageMustBeKnown != 0:
		return m.body.fault(ErrUnsupported, "message type %#x, which must not be skipped", m.kind)
	}
	return nil
}

func (h *header) add(block decoder) error {
	h.blocks = append(h.blocks, block)
	return block.err
}

// old returns the messages at the beginning of a version 1 header (spec IV.A.1.a).
func (h *header) old(b *budget) decoder {
	d := h.file.read(b, "object header", h.address, 16)
	v := d.u8()
	d.require(v == 1, "neither OHDR nor version 1, but %d", v)
	d.take(1 + 2 + 4) // reserved, number of messages, references
	size := d.u32()
	if d.err != nil {
		return d
	}
	return h.file.read(b, "object header", h.address+16, uint64(size))
}

// new returns the messages at the beginning of a version 2 header (spec IV.A.1.b).
func (h *header) new(b *budget) decoder {
	f := h.file
	d := f.read(b, "object header", h.address, uint64(min(34, f.size-h.offset)))
	d.take(4)
	d.version(2, 2)
	flags := d.u8()
	h.creationOrder = flags&(1<<2) != 0
	if flags&(1<<5) != 0 {
		d.take(16) // times
	}
	if flags&(1<<4) != 0 {
		d.take(4) // when attributes become dense
	}
	size := d.number(1 << (flags & 3))
	d.require(size <= uint64(f.size), "%d bytes of messages, but the file has %d", size, f.size)
	if d.err != nil {
		return d
	}
	whole := f.sealed(b, "object header", "OHDR", h.address, uint64(d.pos)+size+4)
	whole.take(uint64(d.pos - whole.pos))
	return whole.part("object header", size)
}

// continuation reads a further block of messages (spec IV.A.2.q).
func (h *header) continuation(b *budget, d decoder) error {
	address, size := d.address(), d.length()
	if d.err != nil {
		return d.err
	}
	const structure = "object header continuation"
	if h.version == 1 {
		return h.add(h.file.read(b, structure, address, size))
	}
	whole := h.file.sealed(b, structure, "OCHK", address, size)
	return h.add(whole.part(structure, uint64(whole.left())))
}

// next reads a message from a block. It returns false if only a gap is left.
func (h *header) next(d *decoder) (message, bool) {
	var m message
	prefix := 8
	if h.version == 2 {
		prefix = 4
		if h.creationOrder {
			prefix = 6
		}
	}
	if d.left() < prefix {
		return m, false
	}
	var size uint16
	if h.version == 1 {
		m.kind, size, m.flags = int(d.u16()), d.u16(), d.u8()
		d.take(3)
	} else {
		m.kind, size, m.flags = int(d.u8()), d.u16(), d.u8()
		d.take(uint64(prefix - 4))
	}
	m.body = d.part(nameOf(m.kind), uint64(size))
	return m, true
}

// messages yields every message except empty ones. The header was looked through
// when it was read, so there are no errors.
func (h *header) messages() iter.Seq[message] {
	return func(yield func(message) bool) {
		for _, block := range h.blocks {
			for block.left() > 0 {
				m, ok := h.next(&block)
				if !ok || block.err != nil {
					break
				}
				if m.kind != messageNil && !yield(m) {
					return
				}
			}
		}
	}
}

// find returns the first message of a type, with what it shares in place of the
// reference to it.
func (h *header) find(b *budget, kind int) (body decoder, ok bool) {
	for m := range h.messages() {
		if m.kind == kind {
			return h.file.resolve(b, m), true
		}
	}
	return decoder{file: h.file}, false
}

func (h *header) has(kind int) bool {
	for m := range h.messages() {
		if m.kind == kind {
			return true
		}
	}
	return false
}

// resolve returns the body of a message or, if it is shared, of the message it refers to.
func (f *File) resolve(b *budget, m message) decoder {
	if m.flags&messageShared == 0 {
		return m.body
	}
	return f.shared(b, m.body, m.kind)
}

// shared follows a reference to a shared message (spec IV.A.2, "Shared Message"). d holds
// the reference, and kind is the type of the shared message.
func (f *File) shared(b *budget, d decoder, kind int) decoder {
	d.structure = "shared " + d.structure
	version := d.version(1, 3)
	place := d.u8()
	if version == 1 {
		d.take(6)
		d.length() // a symbol table entry: the name, not used
	} else if place == 1 {
		return f.inSharedTable(b, d, kind)
	}
	address := d.address()
	if d.err != nil {
		return d
	}
	h := b.headers[address]
	if h == nil {
		if h, d.err = f.header(b, address); d.err != nil {
			return d
		}
		if b.headers == nil {
			b.headers = make(map[uint64]*header)
		}
		b.headers[address] = h
	}
	for m := range h.messages() {
		if m.kind == kind {
			m.body.require(m.flags&messageShared == 0, "a shared message that is shared again")
			return m.body
		}
	}
	d.err = d.corrupt("no %s message in the object at %#x", nameOf(kind), address)
	return d
}

func nameOf(kind int) string {
	if kind < len(messageNames) && messageNames[kind] != "" {
		return messageNames[kind]
	}
	return "header message"
}

var messageNames = [...]string{
	messageDataspace:     "dataspace",
	messageLinkInfo:      "link info",
	messageDatatype:      "datatype",
	messageOldFill:       "fill value",
	messageFill:          "fill value",
	messageLink:          "link",
	messageExternal:      "external files",
	messageLayout:        "data layout",
	messageFilters:       "filter pipeline",
	messageAttribute:     "attribute",
	messageContinuation:  "continuation message",
	messageSymbolTable:   "symbol table message",
	messageAttributeInfo: "attribute info",
}
