package hdf5io

import (
	"encoding/binary"
	"math"

	"github.com/cidstore/cidstore/internal/corrupt"
	"github.com/cidstore/cidstore/internal/hdf5sum"
)

// undefinedAddress stands for "nowhere" in every address field of HDF5.
const undefinedAddress = ^uint64(0)

// Unlimited is the maximum of a dimension that grows without end.
const Unlimited = ^uint64(0)

// maxAddress bounds every address and file size, so that they convert to int64
// and sums of two do not overflow a uint64.
const maxAddress = uint64(math.MaxInt64)

// superblock names the one root of the file that HDF5 tools see: for them,
// replacing its 48 bytes is the commit. Version 3, little-endian (HDF5 spec II.C):
//
//	offset  size  field
//	     0     8  signature
//	     8     1  version, 3
//	     9     1  size of offsets, 8
//	    10     1  size of lengths, 8
//	    11     1  consistency flags, 0: not open for writing by the HDF5 library
//	    12     8  base address, 0
//	    20     8  superblock extension, undefined
//	    28     8  end of file: the file has at least this many bytes
//	    36     8  address of the root group's object header
//	    44     4  lookup3 of bytes 0..43
type superblock struct {
	endOfFile, root uint64
}

const superblockSize = 48

const (
	superblockSignature = "\x89HDF\r\n\x1a\n"
	// superblockForm is version, size of offsets, size of lengths, flags.
	superblockForm = "\x03\x08\x08\x00"
)

func (s superblock) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, superblockSignature+superblockForm...)
	dst = binary.LittleEndian.AppendUint64(dst, 0)
	dst = binary.LittleEndian.AppendUint64(dst, undefinedAddress)
	dst = binary.LittleEndian.AppendUint64(dst, s.endOfFile)
	dst = binary.LittleEndian.AppendUint64(dst, s.root)
	return sealed(dst, start)
}

// parseSuperblock reads the superblock at the start of p. It refuses every form
// that append does not write.
func parseSuperblock(p []byte) (superblock, error) {
	bad := func(offset int64, format string, args ...any) (superblock, error) {
		return superblock{}, corrupt.Errorf("superblock", offset, format, args...)
	}
	if len(p) < superblockSize {
		return bad(0, "%d bytes, want %d", len(p), superblockSize)
	}
	sum, stored := hdf5sum.Lookup3(p[:44]), binary.LittleEndian.Uint32(p[44:])
	base, extension := binary.LittleEndian.Uint64(p[12:]), binary.LittleEndian.Uint64(p[20:])
	s := superblock{endOfFile: binary.LittleEndian.Uint64(p[28:]), root: binary.LittleEndian.Uint64(p[36:])}
	switch {
	case string(p[:8]) != superblockSignature:
		return bad(0, "signature % x, want % x", p[:8], superblockSignature)
	case p[8] != superblockForm[0]:
		return bad(8, "version %d, want %d", p[8], superblockForm[0])
	case p[9] != superblockForm[1] || p[10] != superblockForm[2]:
		return bad(9, "sizes of offsets and lengths %d and %d, want 8 and 8", p[9], p[10])
	case sum != stored:
		return bad(44, "checksum %#08x, want %#08x", stored, sum)
	case p[11] != superblockForm[3]:
		return bad(11, "consistency flags %#x, want 0: an HDF5 program was writing", p[11])
	case base != 0:
		return bad(12, "base address %#x, want 0", base)
	case extension != undefinedAddress:
		return bad(20, "superblock extension at %#x, want none", extension)
	case s.endOfFile > maxAddress:
		return bad(28, "end of file %#x, limit %#x", s.endOfFile, maxAddress)
	case s.root < superblockSize || s.root >= s.endOfFile:
		return bad(36, "root group at %#x, want it between %d and the end of file %#x", s.root, superblockSize, s.endOfFile)
	}
	return s, nil
}
