package hdf5io

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/hdf5sum"
)

// An object header says everything about one group or dataset. Version 2 (HDF5 spec
// IV.A.1.b):
//
//	size  field
//	   4  signature "OHDR"
//	   1  version, 2
//	   1  flags: which width the next field has, 0: 1, 1: 2, 2: 4 bytes
//	   w  bytes of all messages
//	      messages: type u8, size of data u16, flags u8, data
//	   4  lookup3 of all bytes before
const (
	headerSignature  = "OHDR"
	headerVersion    = 2
	headerPrefixMin  = 6  // bytes before the size field
	headerPrefixRead = 12 // bytes that parseHeaderPrefix wants to see
	headerWidthFlags = 2  // largest legal value of flags
	messagePrefix    = 4  // bytes before a message's data
	checksumSize     = 4

	// maxMessageBytes is what the u16 size of a message can say.
	maxMessageBytes = math.MaxUint16

	// maxHeaderBytes bounds what is read for one header. It is enough for 250
	// attributes of the largest size.
	maxHeaderBytes = 16 << 20
)

// objectHeader is what the header of a group or a dataset says.
type objectHeader struct {
	links      []link         // of a group
	dataset    *datasetHeader // nil: a group
	attributes []Attribute    // names are unique
}

// link names one member of a group.
type link struct {
	name    string
	address uint64 // of the member's object header
}

// datasetHeader is what the header of a dataset says, except attributes.
type datasetHeader struct {
	Type          Datatype
	dims, maxDims []uint64 // up to 4 dimensions; maxDims nil: dims; an element may be Unlimited
	chunk         []uint32 // elements of a chunk along each dimension; nil: contiguous
	filtered      bool     // chunks end in their Fletcher32
	packing                // filtered: what comes before it
	address, size uint64   // contiguous: the data; chunked: address of the index header
	nodeSize      uint32   // chunked: bytes of an index node
}

type messageType uint8

const (
	messageNil           messageType = 0x00
	messageDataspace     messageType = 0x01
	messageLinkInfo      messageType = 0x02
	messageDatatype      messageType = 0x03
	messageFillValue     messageType = 0x05
	messageLink          messageType = 0x06
	messageLayout        messageType = 0x08
	messageGroupInfo     messageType = 0x0a
	messageFilter        messageType = 0x0b
	messageAttribute     messageType = 0x0c
	messageAttributeInfo messageType = 0x15
)

// messageForm is the name of a message type and the flags that it carries.
type messageForm struct {
	name  string
	flags byte
}

// Message flags (HDF5 spec IV.A.1.b), those that the HDF5 library sets too.
const (
	messageConstant  = 0x01
	messageNotShared = 0x04
)

func (t messageType) form() (form messageForm, known bool) {
	if int(t) < len(messageForms) {
		form = messageForms[t]
	}
	return form, form.name != ""
}

var messageForms = [...]messageForm{
	messageNil:           {"nil", 0},
	messageDataspace:     {"dataspace", 0},
	messageLinkInfo:      {"link info", 0},
	messageDatatype:      {"datatype", messageConstant},
	messageFillValue:     {"fill value", messageConstant},
	messageLink:          {"link", 0},
	messageLayout:        {"data layout", 0},
	messageGroupInfo:     {"group info", messageConstant},
	messageFilter:        {"filter pipeline", messageConstant},
	messageAttribute:     {"attribute", 0},
	messageAttributeInfo: {"attribute info", messageNotShared},
}

// messageList collects the messages of an object header. It keeps the first error.
type messageList struct {
	p   []byte
	err error
}

// add appends one message whose data encode appends.
func (m *messageList) add(t messageType, encode func(dst []byte) []byte) {
	if m.err != nil {
		return
	}
	form, _ := t.form()
	start := len(m.p)
	m.p = encode(append(m.p, byte(t), 0, 0, form.flags))
	size := len(m.p) - start - messagePrefix
	if size > maxMessageBytes {
		m.err = fmt.Errorf("%s message of %d bytes, limit %d", form.name, size, maxMessageBytes)
		return
	}
	binary.LittleEndian.PutUint16(m.p[start+1:], uint16(size))
}

func (m *messageList) addAttributes(attributes []Attribute) {
	if len(attributes) == 0 {
		return
	}
	if m.err == nil {
		m.err = checkAttributes(attributes)
	}
	// Without it HDF5 counts no attributes, and h5repack drops them.
	m.add(messageAttributeInfo, constant(noDenseStorage))
	for i := range attributes {
		m.add(messageAttribute, attributes[i].append)
	}
}

// seal appends the complete header to dst. what names it in errors.
func (m *messageList) seal(what string, dst []byte) ([]byte, error) {
	if m.err != nil {
		return nil, fmt.Errorf("%s: %w", what, m.err)
	}
	flags, width := byte(0), 1
	switch {
	case len(m.p) > 0xffff:
		flags, width = 2, 4
	case len(m.p) > 0xff:
		flags, width = 1, 2
	}
	if size := headerPrefixMin + width + len(m.p) + checksumSize; size > maxHeaderBytes {
		return nil, fmt.Errorf("%s: object header of %d bytes, limit %d", what, size, maxHeaderBytes)
	}
	start := len(dst)
	dst = append(append(dst, headerSignature...), headerVersion, flags)
	dst = appendUint(dst, uint64(len(m.p)), width)
	dst = append(dst, m.p...)
	return sealed(dst, start), nil
}

// append encodes the complete header. The error says what cannot be written; dst is
// then lost.
func (h *objectHeader) append(dst []byte) ([]byte, error) {
	if h.dataset == nil {
		m := messageList{err: checkLinks(h.links)}
		m.add(messageLinkInfo, constant(noDenseStorage))
		m.add(messageGroupInfo, constant(groupInfo))
		for i := range h.links {
			m.add(messageLink, h.links[i].append)
		}
		m.addAttributes(h.attributes)
		return m.seal("group header", dst)
	}
	d := h.dataset
	m := messageList{err: d.check()}
	m.add(messageDataspace, func(dst []byte) []byte { return appendDataspace(dst, d.dims, d.maxDims) })
	m.add(messageDatatype, d.Type.append)
	m.add(messageFillValue, func(dst []byte) []byte { return append(dst, fillValueVersion, d.fillFlags()) })
	m.add(messageLayout, d.appendLayout)
	if d.filtered {
		m.add(messageFilter, d.appendFilterPipeline)
	}
	m.addAttributes(h.attributes)
	return m.seal("dataset header", dst)
}

// parseHeaderPrefix returns the size of the complete header, never more than
// maxHeaderBytes, and where its messages begin.
func parseHeaderPrefix(p []byte, offset int64) (size, messages int, err error) {
	bad := func(format string, args ...any) (int, int, error) {
		return 0, 0, corrupt.Errorf("object header", offset, format, args...)
	}
	switch {
	case len(p) < headerPrefixRead:
		return bad("%d bytes, want at least %d", len(p), headerPrefixRead)
	case string(p[:4]) != headerSignature:
		return bad("signature %q, want %q", p[:4], headerSignature)
	case p[4] != headerVersion:
		return bad("version %d, want %d", p[4], headerVersion)
	case p[5] > headerWidthFlags:
		return bad("flags %#02x, want 0 to %d", p[5], headerWidthFlags)
	}
	width := 1 << p[5]
	body := readUint(p[headerPrefixMin:], width)
	messages = headerPrefixMin + width
	if limit := uint64(maxHeaderBytes - messages - checksumSize); body > limit {
		return bad("%d bytes of messages, limit %d", body, limit)
	}
	return messages + int(body) + checksumSize, messages, nil
}

// parseObjectHeader reads the object header at the start of p, which lies at offset
// in the file and may be longer than the header. It refuses every form that append
// does not write, except NIL messages. The result shares no bytes with p.
func parseObjectHeader(p []byte, offset int64) (h *objectHeader, size int, err error) {
	bad := func(at int, format string, args ...any) (*objectHeader, int, error) {
		return nil, 0, corrupt.Errorf("object header", offset+int64(at), format, args...)
	}
	size, pos, err := parseHeaderPrefix(p, offset)
	if err != nil {
		return nil, 0, err
	}
	if size > len(p) {
		return bad(0, "%d bytes, want %d", len(p), size)
	}
	end := size - checksumSize
	if got, want := binary.LittleEndian.Uint32(p[end:]), hdf5sum.Lookup3(p[:end]); got != want {
		return bad(0, "checksum %#08x, want %#08x", got, want)
	}
	var c headerContent
	for pos < end {
		next, err := c.parseMessage(p[pos:end])
		if err != nil {
			return bad(pos, "%w", err)
		}
		pos += next
	}
	if h, err = c.object(); err != nil {
		return bad(0, "%w", err)
	}
	return h, size, nil
}

// headerContent gathers messages until it is clear what they describe.
type headerContent struct {
	seen       [messageAttributeInfo + 1]bool
	dataset    datasetHeader
	fillFlags  byte
	layout     datasetLayout
	shuffled   uint32 // bytes of an element, by the filter pipeline
	links      []link
	attributes []Attribute
}

// parseMessage reads the message at the start of p and returns its size.
func (c *headerContent) parseMessage(p []byte) (int, error) {
	if len(p) < messagePrefix {
		return 0, fmt.Errorf("%d bytes after the last message", len(p))
	}
	t, size, flags := messageType(p[0]), int(binary.LittleEndian.Uint16(p[1:])), p[3]
	form, known := t.form()
	if !known {
		return 0, fmt.Errorf("message of unknown type %#02x", p[0])
	}
	if size > len(p)-messagePrefix {
		return 0, fmt.Errorf("%s message of %d bytes, only %d are left", form.name, size, len(p)-messagePrefix)
	}
	next := messagePrefix + size
	if t == messageNil {
		return next, nil
	}
	if flags != form.flags {
		return 0, fmt.Errorf("%s message with flags %#02x, want %#02x", form.name, flags, form.flags)
	}
	if c.seen[t] && t != messageLink && t != messageAttribute {
		return 0, fmt.Errorf("second %s message", form.name)
	}
	c.seen[t] = true
	if err := c.parseData(t, p[messagePrefix:next]); err != nil {
		return 0, fmt.Errorf("%s message: %w", form.name, err)
	}
	return next, nil
}

func (c *headerContent) parseData(t messageType, p []byte) (err error) {
	r := fieldReader{p: p}
	switch t {
	case messageDataspace:
		c.dataset.dims, c.dataset.maxDims = readDataspace(&r)
	case messageDatatype:
		var n int
		c.dataset.Type, n, r.err = parseDatatype(p)
		r.bytes(n)
	case messageFillValue:
		r.want("version", r.uint(1), fillValueVersion)
		c.fillFlags = byte(r.uint(1))
	case messageLayout:
		c.layout = readLayout(&r)
	case messageFilter:
		c.dataset.packing, c.shuffled = readFilterPipeline(&r)
	case messageLinkInfo, messageAttributeInfo:
		r.constant(noDenseStorage)
	case messageGroupInfo:
		r.constant(groupInfo)
	case messageLink:
		c.links = append(c.links, readLink(&r))
	case messageAttribute:
		a, err := parseAttribute(p)
		if err != nil {
			return err
		}
		c.attributes = append(c.attributes, a)
		return nil
	}
	return r.end()
}

// object checks that the messages describe one group or one dataset.
func (c *headerContent) object() (*objectHeader, error) {
	if c.seen[messageAttributeInfo] != c.seen[messageAttribute] {
		return nil, fmt.Errorf("%d attributes, but attribute info message: %v", len(c.attributes), c.seen[messageAttributeInfo])
	}
	if err := checkAttributes(c.attributes); err != nil {
		return nil, err
	}
	groupParts := c.count(messageLinkInfo, messageGroupInfo)
	datasetParts := c.count(messageDataspace, messageDatatype, messageFillValue, messageLayout)
	switch {
	case groupParts == 2 && datasetParts == 0 && !c.seen[messageFilter]:
		return &objectHeader{links: c.links, attributes: c.attributes}, checkLinks(c.links)
	case datasetParts == 4 && groupParts == 0 && !c.seen[messageLink]:
		d := &c.dataset
		d.filtered = c.seen[messageFilter]
		if d.shuffle && c.shuffled != d.Type.size {
			return nil, fmt.Errorf("shuffle of elements of %d bytes, datatype of %d", c.shuffled, d.Type.size)
		}
		return &objectHeader{dataset: d, attributes: c.attributes}, d.setLayout(c.layout, c.fillFlags)
	}
	return nil, fmt.Errorf("messages make neither a group nor a dataset")
}

func (c *headerContent) count(types ...messageType) (n int) {
	for _, t := range types {
		if c.seen[t] {
			n++
		}
	}
	return n
}

// checkAttributes reports why attributes cannot be in one header.
func checkAttributes(attributes []Attribute) error {
	names := make(map[string]bool, len(attributes))
	for i := range attributes {
		a := &attributes[i]
		if err := a.check(); err != nil {
			return fmt.Errorf("attribute %q: %w", a.Name, err)
		}
		if names[a.Name] {
			return fmt.Errorf("two attributes %q", a.Name)
		}
		names[a.Name] = true
	}
	return nil
}
