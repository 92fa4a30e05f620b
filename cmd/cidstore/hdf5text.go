package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cidstore/cidstore/hdf5"
)

// longText is how many bytes are printed of a text in an HDF5 file.
const longText = 240

// shown returns a text as it is if it can be printed, and with Go's quotes and escapes
// otherwise: a file must not control the terminal. A text that begins with a quote is
// quoted too.
func shown(text string) string {
	if strings.HasPrefix(text, `"`) || visible(text) != text {
		return strconv.Quote(text)
	}
	return text
}

// visible returns a text with Go's escapes for what cannot be printed.
func visible(text string) string {
	var out strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		part := text[:n]
		if !strconv.IsPrint(r) || r == utf8.RuneError && n == 1 {
			part = strings.Trim(strconv.Quote(part), `"`)
		}
		out.WriteString(part)
		text = text[n:]
	}
	return out.String()
}

// cutText returns what shown does, cut if the text is long.
func cutText(text string) string { return cut(text, shown) }

// cutJSON returns JSON that can be printed, cut if it is long.
func cutJSON(text string) string { return cut(text, func(part string) string { return part }) }

func cut(text string, show func(string) string) string {
	if len(text) <= longText {
		return show(text)
	}
	return show(firstOf(text)) + fmt.Sprintf("… (%d bytes)", len(text))
}

func firstOf(text string) string { return strings.ToValidUTF8(text[:longText], "") }

// kindOf returns the word for the kind of an object.
func kindOf(o hdf5.Object) string {
	switch o.(type) {
	case *hdf5.Group:
		return "group"
	case *hdf5.Dataset:
		return "dataset"
	}
	return "datatype"
}

// looks lists the first bytes of files that people take for HDF5 files, what the files
// are, and what to do.
var looks = []struct{ magic, is string }{
	{gzipMagic, "is packed with gzip; unpack it, for example by gzip -dc FILE > FILE.h5"},
	{"\x28\xb5\x2f\xfd", "is packed with zstd; unpack it, for example by zstd -d FILE"},
	{"\xfd7zXZ\x00", "is packed with xz; unpack it, for example by xz -d FILE"},
	{"BZh", "is packed with bzip2; unpack it, for example by bzip2 -d FILE"},
	{"PK\x03\x04", "is a ZIP archive, as spreadsheets, npz and zipped Zarr are; unpack it, or have its program write HDF5"},
	{"CDF", "is a netCDF file of the classic format; turn it into HDF5, for example by nccopy -k nc4 FILE FILE.nc"},
	{"\x0e\x03\x13\x01", "is an HDF4 file; turn it into HDF5, for example by h4toh5 FILE"},
	{"MATLAB 5.0 MAT-file", "is a MATLAB file of version 5; save it with -v7.3, which is HDF5"},
	{"\x93NUMPY", "is an array of numpy; write it as HDF5, for example with h5py"},
	{"SQLite format 3\x00", "is an SQLite database; export its table as CSV"},
	{"PAR1", "is a Parquet file; export its table as CSV"},
	{"ARROW1", "is an Arrow file; export its table as CSV"},
	{"SIMPLE  =", "is a FITS file; turn it into HDF5, or export its table as CSV"},
	{"%PDF-", "is a PDF document; name an HDF5 file"},
	{"\x7fELF", "is a program; name an HDF5 file"},
}

// lookBytes is how many bytes are read to see what a file looks like.
const lookBytes = 4096

// looksLike says what a file that is not HDF5 looks like, and what to do.
func looksLike(file io.ReaderAt) string {
	head := make([]byte, lookBytes)
	n, _ := file.ReadAt(head, 0) // a failure has been reported before
	head = head[:n]
	if n == 0 {
		return "it is empty; name another file"
	}
	for _, kind := range looks {
		if bytes.HasPrefix(head, []byte(kind.magic)) {
			return "it " + kind.is
		}
	}
	if len(bytes.Trim(head, "\x00")) == 0 {
		return "it begins with zeros, like a file that was not copied completely; copy it again"
	}
	if n == lookBytes { // the cut may have split a letter
		head = head[:n-utf8.UTFMax]
		for len(head) > 0 && !utf8.Valid(head) && n-len(head) < 2*utf8.UTFMax {
			head = head[:len(head)-1]
		}
	}
	if utf8.Valid(head) && !strings.ContainsFunc(string(head), isControl) {
		return "it looks like text; import reads text without --dataset"
	}
	return "it is binary, and of no known kind; name an HDF5 file"
}

// isControl reports whether a letter does not belong in a text.
func isControl(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\n\v\f\r", r) }
