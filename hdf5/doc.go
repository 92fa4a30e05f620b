// Package hdf5 reads HDF5 files that other programs wrote: h5py, PyTables,
// netCDF-4, and whatever else uses the HDF5 library, old or new. It never writes.
//
// It shares no code with the store's own reader, package hdf5io, which knows only
// the few structures that a store is made of. Section numbers are those of the
// HDF5 File Format Specification, versions 3.0 and 4.0.
//
// # What it reads
//
//	superblock     versions 0 to 3, after a user block too
//	object header  versions 1 and 2, with continuations
//	groups         symbol tables, link messages, dense links
//	links          hard and soft ones are followed, external ones reported
//	attributes     versions 1 to 3, in the header and dense
//	shared         committed datatypes, and messages of the shared message table
//	datatypes      versions 1 to 5, all classes; time, references and VAX floats as bytes
//	layouts        versions 1 to 5: compact, contiguous, chunked with each index
//	filters        deflate, shuffle, Fletcher32, LZF, bzip2, Zstandard
//
// Virtual and external storage, filtered heaps, files of several parts, and other
// filters end in an error that matches ErrUnsupported and names what is missing.
//
// # Hostile files
//
// Every checksum in the file is verified, and every length, count and address is
// bounded before it is used. One step, a call or one turn of an iterator, takes
// memory of at most about 16 times the file's size, 1 MiB (with bzip2 5 MiB), and a
// few times Options.MaxChunkBytes. A walk that reads more bytes than the file has is
// damage: in a good file no byte belongs to two structures.
//
// The file decides how many steps there are: objects may share their attributes and
// their chunks, and rows may be packed 2,048 to one. A program that reads all of a file
// that it does not trust counts what it reads.
//
// A File, and all that comes from it, may be used by several goroutines. Rows of many
// chunks are read and unpacked on all cores, GOMAXPROCS; the goroutines end before the
// call or the turn does.
package hdf5
