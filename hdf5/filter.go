package hdf5

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/cidstore/cidstore/internal/hdf5sum"
)

// Filter is one of the steps that chunks went through before they were stored.
type Filter struct {
	ID       uint16 // as registered with The HDF Group
	Name     string // the writer's name for it; empty for most of HDF5's own
	Optional bool   // a writer skips it if it does not have it or it fails
	Values   []uint32
}

// Numbers of filters.
const (
	filterDeflate  = 1
	filterShuffle  = 2
	filterFletcher = 3
	filterBzip2    = 307
	filterLZF      = 32000
	filterZstd     = 32015
)

var filterNames = map[uint16]string{
	filterDeflate: "deflate", filterShuffle: "shuffle", filterFletcher: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset",
	305: "lzo", filterBzip2: "bzip2", filterLZF: "lzf", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp",
	filterZstd: "zstd", 32017: "sz", 32026: "blosc2",
}

// String returns the registered name of the filter, or the writer's name, or its number.
func (f Filter) String() string {
	if name, ok := filterNames[f.ID]; ok {
		return name
	}
	if f.Name != "" {
		return fmt.Sprintf("%s (%d)", f.Name, f.ID)
	}
	return fmt.Sprintf("filter %d", f.ID)
}

const maxFilters = 32 // bits of a mask

// filters parses a filter pipeline message (spec IV.A.2.l).
func (d *decoder) filters() (filters []Filter) {
	version := d.version(1, 2)
	n := int(d.u8())
	if version == 1 {
		d.take(6)
	}
	d.require(n <= maxFilters, "%d filters, at most %d", n, maxFilters)
	for range n {
		f := Filter{ID: d.u16()}
		var nameSize uint64
		if version == 1 || f.ID >= 256 {
			nameSize = uint64(d.u16())
		}
		f.Optional = d.u16()&1 != 0
		values := int(d.u16())
		f.Name, _, _ = strings.Cut(string(d.take(nameSize)), "\x00")
		if version == 1 && nameSize%8 != 0 {
			d.take(8 - nameSize%8)
		}
		for i := 0; i < values && d.err == nil; i++ {
			f.Values = append(f.Values, d.u32())
		}
		if version == 1 && values%2 == 1 {
			d.take(4)
		}
		filters = append(filters, f)
	}
	return filters
}

// pipeline undoes filters. It keeps its buffers from one chunk to the next.
type pipeline struct {
	filters  []Filter
	spare    [2][]byte
	inflater *inflater
	zstd     *zstd.Decoder
}

// errFilter says that no such filter made the data.
var errFilter = errors.New("not the output of the filter")

// undo undoes the filters of a stored chunk in reverse order, except those whose bit is
// in mask. The result has size bytes. It may be in dst, if that has size bytes, or be a
// part of stored, or be valid only until the next call. If dst has another size, the
// result may still be shuffled: then shuffled is the size of its elements, else 0.
func (p *pipeline) undo(dst, stored []byte, mask uint32, size int) (data []byte, shuffled int, err error) {
	// A filter may have made a little more than it was given.
	limit := size + size/8 + 1024
	data, next := stored, 0
	for i := len(p.filters) - 1; i >= 0; i-- {
		if mask&(1<<i) != 0 {
			continue
		}
		f := p.filters[i]
		if i == 0 && f.ID == filterShuffle && len(dst) != size && len(f.Values) > 0 {
			shuffled = int(f.Values[0])
			break
		}
		last := i == 0 && len(dst) == size && f.ID != filterFletcher
		into, most := p.spare[next][:0], limit
		if last {
			into, most = dst[:0:size], size
		}
		out, err := p.step(f, into, data, most)
		if err != nil {
			return nil, 0, fmt.Errorf("filter %s: %w", f, err)
		}
		if f.ID != filterFletcher && !last {
			p.spare[next] = out
			next = 1 - next
		}
		data = out
	}
	if len(data) != size {
		return nil, 0, fmt.Errorf("%d bytes after all filters, want %d: %w", len(data), size, errFilter)
	}
	if shuffled < 2 || shuffled > size {
		shuffled = 0 // the filter has left them as they were
	}
	return data, shuffled, nil
}

// step undoes one filter: appends at most limit bytes to dst, or returns a part of
// src.
func (p *pipeline) step(f Filter, dst, src []byte, limit int) ([]byte, error) {
	switch f.ID {
	case filterDeflate:
		return p.inflate(dst, src, limit)
	case filterShuffle:
		if len(f.Values) < 1 {
			return nil, fmt.Errorf("no element size: %w", errFilter)
		}
		return unshuffle(slices.Grow(dst, len(src))[:len(src)], src, int(f.Values[0])), nil
	case filterFletcher:
		return unfletcher(src)
	case filterLZF:
		return unLZF(dst, src, limit)
	case filterBzip2:
		return readAll(dst, bzip2.NewReader(bytes.NewReader(src)), limit)
	case filterZstd:
		return p.unzstd(dst, src, limit)
	}
	return nil, ErrUnsupported
}

// readAll appends everything that r has to dst, which is empty. It may be at most limit
// bytes.
func readAll(dst []byte, r io.Reader, limit int) ([]byte, error) {
	all := bytes.NewBuffer(dst)
	if _, err := all.ReadFrom(io.LimitReader(r, int64(limit)+1)); err != nil {
		return nil, fmt.Errorf("%w: %w", errFilter, err)
	}
	if all.Len() > limit {
		return nil, fmt.Errorf("more than %d bytes: %w", limit, errFilter)
	}
	return all.Bytes(), nil
}

// maxDeflate is how many times as large as its packed form data can be: the longest
// match takes two bits.
const maxDeflate = 1032

func (p *pipeline) inflate(dst, src []byte, limit int) ([]byte, error) {
	if p.inflater == nil {
		p.inflater = new(inflater)
	}
	dst = slices.Grow(dst[:0], int(min(int64(limit), maxDeflate*int64(len(src)))))
	dst = dst[:min(cap(dst), limit)]
	n, err := p.inflater.inflate(dst, src)
	if err != nil {
		return nil, err
	}
	return dst[:n], nil
}

func (p *pipeline) unzstd(dst, src []byte, limit int) ([]byte, error) {
	if p.zstd == nil {
		most := uint64(limit) + 1024 // a window may be larger than what is in it
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(most))
		if err != nil {
			return nil, err
		}
		p.zstd = d
	}
	out, err := p.zstd.DecodeAll(src, dst)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errFilter, err)
	}
	return out, nil
}

func (p *pipeline) close() {
	if p.zstd != nil {
		p.zstd.Close()
	}
}

// unfletcher verifies the checksum after the data, and returns the data. Library
// versions before 1.6.3 swapped the bytes of both sums.
func unfletcher(src []byte) ([]byte, error) {
	if len(src) < 4 {
		return nil, fmt.Errorf("%d bytes are too few for a checksum: %w", len(src), errFilter)
	}
	data := src[:len(src)-4]
	stored, got := binary.LittleEndian.Uint32(src[len(data):]), hdf5sum.Fletcher32(data)
	swapped := bits.ReverseBytes32(got)
	if stored != got && stored != swapped<<16|swapped>>16 {
		return nil, fmt.Errorf("checksum %08x, stored %08x: %w", got, stored, errFilter)
	}
	return data, nil
}

// unLZF appends what LZF packed into src. There are runs of up to 32 plain bytes, and
// references to earlier bytes.
func unLZF(dst, src []byte, limit int) ([]byte, error) {
	for len(src) > 0 {
		control := int(src[0])
		src = src[1:]
		if control < 32 {
			n := control + 1
			if n > len(src) {
				return nil, fmt.Errorf("%d bytes left, want %d: %w", len(src), n, errFilter)
			}
			if len(dst)+n > limit {
				return nil, fmt.Errorf("more than %d bytes: %w", limit, errFilter)
			}
			dst, src = append(dst, src[:n]...), src[n:]
			continue
		}
		n := control >> 5
		if n == 7 && len(src) > 0 {
			n += int(src[0])
			src = src[1:]
		}
		if len(src) == 0 {
			return nil, fmt.Errorf("a reference is cut: %w", errFilter)
		}
		back := (control&31)<<8 | int(src[0]) + 1
		src = src[1:]
		if n += 2; back > len(dst) || len(dst)+n > limit {
			return nil, fmt.Errorf("%d bytes from %d back, of %d, at most %d: %w", n, back, len(dst), limit, errFilter)
		}
		for range n {
			dst = append(dst, dst[len(dst)-back])
		}
	}
	return dst, nil
}
