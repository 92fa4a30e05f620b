package hdf5io

import (
	"encoding/binary"
	"fmt"
)

// A group has its members in its object header, one link message for each. Link
// info and group info say that there is no other storage.
const (
	// noDenseStorage is the data of link info and attribute info messages (HDF5
	// spec IV.A.2.c and IV.A.2.v): version and flags 0, no fractal heap, no
	// name index.
	noDenseStorage = "\x00\x00" + "\xff\xff\xff\xff\xff\xff\xff\xff" + "\xff\xff\xff\xff\xff\xff\xff\xff"
	groupInfo      = "\x00\x00" // version and flags 0 (HDF5 spec IV.A.2.k)

	linkVersion = 1
	linkCharset = 0x10 // flag: a character set comes before the name's length
)

// constant encodes a message that is always the same.
func constant(data string) func(dst []byte) []byte {
	return func(dst []byte) []byte { return append(dst, data...) }
}

// append encodes a hard link as the data of a link message (HDF5 spec IV.A.2.g):
// version, flags, character set if it is not ASCII, length of the name in one byte,
// name, address.
func (l *link) append(dst []byte) []byte {
	if nameCharset(l.name) == charsetASCII {
		dst = append(dst, linkVersion, 0)
	} else {
		dst = append(dst, linkVersion, linkCharset, charsetUTF8)
	}
	dst = append(append(dst, byte(len(l.name))), l.name...)
	return binary.LittleEndian.AppendUint64(dst, l.address)
}

func readLink(r *fieldReader) link {
	r.want("version", r.uint(1), linkVersion)
	flags := r.uint(1)
	r.want("flags", flags&^linkCharset, 0)
	charset := uint64(charsetASCII)
	if flags == linkCharset {
		charset = r.uint(1)
	}
	l := link{name: string(r.bytes(int(r.uint(1))))}
	l.address = r.uint(8)
	r.want("character set", charset, uint64(nameCharset(l.name)))
	return l
}

// checkLinks reports why a group cannot have the links.
func checkLinks(links []link) error {
	names := make(map[string]bool, len(links))
	for _, l := range links {
		if err := checkName(l.name); err != nil {
			return fmt.Errorf("link: %w", err)
		}
		if names[l.name] {
			return fmt.Errorf("two links %q", l.name)
		}
		names[l.name] = true
		if l.address < superblockSize || l.address > maxAddress {
			return fmt.Errorf("link %q to address %#x", l.name, l.address)
		}
	}
	return nil
}
