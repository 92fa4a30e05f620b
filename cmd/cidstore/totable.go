package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/table"
	"github.com/cidstore/cidstore/vfs"
)

// toTable holds the flags with which export writes a table.
type toTable struct {
	format string // of --to
	path   string
	csr    bool
	pack   bool
}

// check returns what is wrong with the flags and the arguments.
func (t *toTable) check(args []string) error {
	switch {
	case t.format == "" && (t.csr || t.pack):
		return usageError{errors.New("--csr and --gzip need --to hdf5")}
	case t.format == "" && len(args) > 1:
		return usageError{fmt.Errorf("export: %s is one argument too many without --to hdf5", args[1])}
	case t.format == "":
		return nil
	case t.format != "hdf5":
		return usageError{fmt.Errorf("--to: %q, want hdf5", t.format)}
	case len(args) < 2:
		return usageError{errors.New("export --to hdf5: after STORE, name the file to make")}
	}
	if t.path = args[1]; t.path == standard {
		return usageError{errors.New("export --to hdf5: an HDF5 table needs a file, not standard output")}
	}
	return absent(t.path)
}

// absent returns an error if the name exists already.
func absent(path string) error {
	switch _, err := vfs.Kind(vfs.OS(), path); {
	case err == nil:
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return err
	}
}

// exported is the answer of export --to hdf5.
type exported struct {
	Path  string `json:"path"`
	Keys  uint64 `json:"keys"`
	Pairs uint64 `json:"pairs"`
	Bytes int64  `json:"bytes"`
}

// exportTable writes the pairs to a file, which gets its name when it is complete. Like
// export of text, it leaves out pairs that cannot be read.
func (p *program) exportTable(view *cidstore.Snapshot, to toTable) error {
	counts := exported{Path: to.path}
	err := createWhole(to.path, func(file vfs.File) error {
		w := table.NewWriter(writerAt{file}, to.pack)
		pairs, err := newPairTable(w, to.csr)
		if err != nil {
			return err
		}
		var last cidstore.E
		err = p.eachPair(view, func(key, value cidstore.E) error {
			counts.Pairs++
			first := counts.Pairs == 1 || key != last
			if first {
				last = key
				counts.Keys++
			}
			return pairs.add(key, value, first)
		})
		if err != nil {
			return err
		}
		if err := pairs.end(); err != nil {
			return err
		}
		return w.Close()
	})
	if err != nil {
		return err
	}
	if counts.Bytes, err = fileSize(to.path); err != nil {
		return err
	}
	return p.result(counts, "%s: %d keys, %d pairs, %d bytes", to.path, counts.Keys, counts.Pairs, counts.Bytes)
}

// pairTable is one of the forms of a table. It gets the values of a key one after
// another; first says that a new key begins.
type pairTable interface {
	add(key, value cidstore.E, first bool) error
	end() error
}

func newPairTable(w *table.Writer, csr bool) (pairTable, error) {
	if !csr {
		rows, err := w.Dataset("pairs", "every pair of a store: identifiers of 128 bits, high and low word",
			"key_high", "key_low", "value_high", "value_low")
		return flatTable{rows}, err
	}
	keys, err := w.Dataset("keys", "every key of a store, once: high and low word", "high", "low")
	if err != nil {
		return nil, err
	}
	indptr, err := w.Dataset("indptr", "the values of key i are those from indptr[i] on, up to indptr[i+1]")
	if err != nil {
		return nil, err
	}
	values, err := w.Dataset("values", "the values of all keys: high and low word", "high", "low")
	return csrTable{keys, indptr, values}, err
}

// flatTable is a table with a row for each pair.
type flatTable struct{ rows *table.Dataset }

func (t flatTable) add(key, value cidstore.E, _ bool) error {
	return t.rows.Append(key.High, key.Low, value.High, value.Low)
}

func (t flatTable) end() error { return nil }

// csrTable has each key once, like the rows of a compressed sparse matrix.
type csrTable struct{ keys, indptr, values *table.Dataset }

func (t csrTable) add(key, value cidstore.E, first bool) error {
	if first {
		if err := t.keys.Append(key.High, key.Low); err != nil {
			return err
		}
		if err := t.end(); err != nil { // of the values before
			return err
		}
	}
	return t.values.Append(value.High, value.Low)
}

func (t csrTable) end() error { return t.indptr.Append(t.values.Len()) }
