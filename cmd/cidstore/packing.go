package main

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// inputError says why input cannot be read as pairs. It ends an import.
type inputError struct{ reason string }

func (e inputError) Error() string { return e.reason }

const (
	gzipMagic = "\x1f\x8b"
	// maxWindow is how far back a zstd frame may refer, which limits the memory that
	// it needs. It is the window of zstd --ultra -22.
	maxWindow = 128 << 20
)

// zstdMagics are the first bytes of a frame. A skippable frame may come first.
var zstdMagics = func() []string {
	magics := []string{"\x28\xb5\x2f\xfd"}
	for n := byte(0x50); n <= 0x5f; n++ {
		magics = append(magics, string(n)+"\x2a\x4d\x18")
	}
	return magics
}()

// refusedHDF5 is the message for an HDF5 file that does not have exactly one table.
const refusedHDF5 = "it is an HDF5 file; import one of its tables with --dataset PATH --key A[,B] --value C[,D], or, if it is a store, what cidstore export prints"

// refused lists the kinds of files that are known but not read, and what to do.
var refused = []struct{ magic, reason string }{
	{"\x89HDF\r\n\x1a\n", refusedHDF5},
	{"PK\x03\x04", "it is a ZIP archive or a spreadsheet; unpack it, or save it as CSV"},
	{"PK\x05\x06", "it is a ZIP archive, an empty one"},
	{"\xfd7zXZ\x00", "it is packed with xz; unpack it, for example by xz -dc FILE | cidstore import STORE -"},
	{"BZh91AY&SY", "it is packed with bzip2; unpack it, for example by bzip2 -dc FILE | cidstore import STORE -"},
	{"7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it"},
	{"\x04\x22\x4d\x18", "it is packed with lz4; unpack it, for example by lz4 -dc FILE | cidstore import STORE -"},
	{"\x1f\x9d", "it is packed with compress; unpack it, for example by gzip -dc FILE | cidstore import STORE -"},
	{"%PDF-", "it is a PDF document"},
}

// begins reports whether the input begins with magic. It does not wait for more input
// than it needs.
func begins(in *bufio.Reader, magic string) bool {
	for n := 1; n <= len(magic); n++ {
		// It ignores errors: reading the text meets them again.
		if head, _ := in.Peek(n); len(head) < n || head[n-1] != magic[n-1] {
			return false
		}
	}
	return true
}

func beginsAny(in *bufio.Reader, magics []string) bool {
	return slices.ContainsFunc(magics, func(magic string) bool { return begins(in, magic) })
}

// refuse returns an error for input of a kind that is known but not read.
func refuse(in *bufio.Reader) error {
	for _, kind := range refused {
		if begins(in, kind.magic) {
			return inputError{kind.reason}
		}
	}
	return nil
}

// unpack returns the input as it is, or unpacked if it begins like gzip or zstd. Its
// use of memory is limited, whatever the input unpacks to.
func unpack(in *bufio.Reader) (*bufio.Reader, error) {
	if err := refuse(in); err != nil {
		return nil, err
	}
	var unpacked io.Reader
	var err error
	switch {
	case begins(in, gzipMagic):
		unpacked, err = newGzipReader(in)
	case beginsAny(in, zstdMagics):
		unpacked, err = newZstdReader(in)
	default:
		return in, nil
	}
	if err != nil {
		return nil, err
	}
	out := bufio.NewReaderSize(unpacked, 64<<10)
	if begins(out, gzipMagic) || beginsAny(out, zstdMagics) {
		return nil, inputError{"it is packed twice; unpack it once"}
	}
	return out, refuse(out)
}

// gzipReader unpacks the members of a gzip file, one after another. Zeros between
// and after them are padding, as on a tape.
type gzipReader struct {
	in *bufio.Reader // which gzip.Reader reads without a byte too many
	gz *gzip.Reader
}

func newGzipReader(in *bufio.Reader) (*gzipReader, error) {
	g := &gzipReader{in, new(gzip.Reader)}
	return g, g.begin()
}

// begin reads the header of a member.
func (g *gzipReader) begin() error {
	if err := g.gz.Reset(g.in); err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	g.gz.Multistream(false)
	return nil
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := g.gz.Read(p)
		switch {
		case err == io.EOF:
			if err = g.nextMember(); err == nil && n == 0 {
				continue
			}
		case err != nil:
			err = fmt.Errorf("gzip: %w", err)
		}
		return n, err
	}
}

// nextMember goes on to the next member. The error is io.EOF at the end of the file.
func (g *gzipReader) nextMember() error {
	for {
		next, err := g.in.ReadByte()
		switch {
		case err != nil:
			return err
		case next == 0:
			continue
		}
		if err := g.in.UnreadByte(); err != nil {
			return err
		}
		if !begins(g.in, gzipMagic) {
			return inputError{"bytes that are not gzip follow the packed data"}
		}
		return g.begin()
	}
}

// zstdReader adds the packing to errors, and refuses bytes after the last frame.
type zstdReader struct{ in *zstd.Decoder }

func newZstdReader(in io.Reader) (zstdReader, error) {
	// Without concurrency no goroutine stays if nobody closes the reader.
	decoder, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	return zstdReader{decoder}, err
}

func (z zstdReader) Read(p []byte) (int, error) {
	n, err := z.in.Read(p)
	switch {
	case errors.Is(err, zstd.ErrMagicMismatch):
		err = inputError{"bytes that are not zstd follow the packed data"}
	case err != nil && err != io.EOF:
		err = fmt.Errorf("zstd: %w", err)
	}
	return n, err
}
