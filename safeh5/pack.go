package safeh5

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/zlib"

	"github.com/cidstore/cidstore/internal/corrupt"
)

// packer applies the filters shuffle and deflate, in this order.
type packer struct {
	shuffle bool
	level   int // of deflate; 0: none
	element int // bytes

	shuffled []byte
	deflated bytes.Buffer
	writer   *zlib.Writer
}

// skipDeflate is the mask of a chunk that was not deflated, because that would not make
// it shorter.
func (k *packer) skipDeflate() uint32 {
	if k.shuffle {
		return 1 << 1
	}
	return 1 << 0
}

// pack returns a chunk after its filters. The result is valid until the next call.
func (k *packer) pack(chunk []byte) (packed []byte, skipped uint32, err error) {
	if k.shuffle && k.element > 1 {
		if k.shuffled == nil {
			k.shuffled = make([]byte, len(chunk))
		}
		shuffle(k.shuffled, chunk, k.element)
		chunk = k.shuffled
	}
	if k.level == 0 {
		return chunk, 0, nil
	}
	k.deflated.Reset()
	if k.writer == nil {
		if k.writer, err = zlib.NewWriterLevel(&k.deflated, k.level); err != nil {
			return nil, 0, err
		}
	} else {
		k.writer.Reset(&k.deflated)
	}
	if _, err := k.writer.Write(chunk); err != nil {
		return nil, 0, err
	}
	if err := k.writer.Close(); err != nil {
		return nil, 0, err
	}
	if k.deflated.Len() >= len(chunk) {
		return chunk, k.skipDeflate(), nil
	}
	return k.deflated.Bytes(), 0, nil
}

// unpack returns the size bytes that were packed, in new memory.
func (k *packer) unpack(packed []byte, skipped uint32, size int) ([]byte, error) {
	chunk := make([]byte, size)
	if k.level > 0 && skipped&k.skipDeflate() == 0 {
		if err := inflate(chunk, packed); err != nil {
			return nil, corrupt.Errorf("deflated chunk", -1, "%w", err)
		}
	} else {
		if len(packed) != size {
			return nil, corrupt.Errorf("chunk", -1, "%d bytes, want %d", len(packed), size)
		}
		copy(chunk, packed)
	}
	if k.shuffle && k.element > 1 {
		out := make([]byte, size)
		unshuffle(out, chunk, k.element)
		chunk = out
	}
	return chunk, nil
}

// inflate fills dst with what was packed, which must be as long.
func inflate(dst, packed []byte) error {
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(r, dst); err != nil {
		return err
	}
	if n, end := r.Read(make([]byte, 1)); n > 0 || end != io.EOF {
		return fmt.Errorf("more than %d bytes, or no end: %v", len(dst), end)
	}
	return nil
}

// shuffle puts the first bytes of all elements together, then the second ones, and so on.
func shuffle(dst, src []byte, element int) {
	n := len(src) / element
	for b := range element {
		to := dst[b*n : (b+1)*n]
		for i, at := 0, b; i < len(to); i, at = i+1, at+element {
			to[i] = src[at]
		}
	}
}

func unshuffle(dst, src []byte, element int) {
	n := len(src) / element
	for b := range element {
		for i, c := range src[b*n : (b+1)*n] {
			dst[i*element+b] = c
		}
	}
}
