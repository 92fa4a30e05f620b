// Package table writes HDF5 files of plain tables: datasets of one dimension whose
// elements are one unsigned 64-bit number, or a record of such numbers. Such a file
// has the oldest structures that HDF5 libraries still write, which most programs
// can read: a superblock of version 0, one group, object headers of version 1, and
// chunks under B-trees of version 1. Datasets are unlimited, so that such programs
// can append to them.
//
// The file is written once, from front to back, whatever its size. It takes memory
// for one chunk of each dataset, and 16 bytes for each chunk. Until Close it is not
// an HDF5 file.
//
//	0      superblock
//	512    chunks of all datasets, in the order in which they became full
//	then   for each dataset its B-tree, leaves first, and its object header
//	then   the names, and the root group
//
// Section numbers are those of the HDF5 File Format Specification, version 3.0. The
// package shares no code with hdf5io, which writes stores, or hdf5, which reads the
// files of other programs.
package table
