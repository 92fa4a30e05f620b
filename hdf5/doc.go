// Package hdf5 reads HDF5 files that other programs wrote: h5py, PyTables,
// netCDF-4, and whatever else uses the HDF5 library, old or new. It never writes.
//
// With package hdf5io, the store's own reader, which knows only the few structures that a
// store is made of, it shares only the checksums. Section numbers refer to the HDF5 File
// Format Specification, versions 3.0 and 4.0.
//
// # What it reads
//
//	superblock     versions 0 to 3, also after a user block
//	object header  versions 1 and 2, with continuations
//	groups         symbol tables, link messages, dense links
//	links          hard and soft (followed), external (reported)
//	attributes     versions 1 to 3, in the header and dense
//	shared         committed datatypes, and messages of the shared message table
//	datatypes      versions 1 to 5, all classes; time, references and VAX floats as bytes
//	layouts        versions 1 to 5: compact, contiguous, chunked with each index
//	filters        deflate, shuffle, Fletcher32, LZF, bzip2, Zstandard
//	selections     rows, and hyperslabs: start, stride, count and block of each dimension
//
// Virtual and external storage, filtered heaps, files of several parts, and other
// filters end in an error that matches ErrUnsupported and names what is missing.
//
// # Hostile files
//
// The package verifies every checksum in the file, and checks every length, count and
// address before it uses it. One step, which is a call or one turn of an iterator, takes at
// most about this much memory: 16 times the size of the file, plus 1 MiB (5 MiB with
// bzip2), plus a few times Options.MaxChunkBytes. If a walk reads more bytes than the file
// has, the file is damaged: in a good file no byte belongs to two structures.
//
// The file decides how many steps there are: objects may share their attributes and their
// chunks, and rows may be packed 2,048 to one. A program that reads all of a file that it
// does not trust must count what it reads.
//
// Several goroutines may use a File, and everything that comes from it, at once. Rows of
// many chunks are read and unpacked on all cores (GOMAXPROCS). The goroutines for that end
// before the call or the turn does.
package hdf5
