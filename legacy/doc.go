// Package legacy reads the stores of the Python package that came before this one, and
// those of format 1 of this one. It never writes.
//
// A store of the Python package is an HDF5 file. What the layouts have in common:
//
//	/config                 attribute format_version, 1; attribute directory
//	/buckets/bucket_N       entries: a key, its slots, a mask of the slots in use
//	/values/sp              the values of keys that have no room in their slots
//	/wal, /wal_meta         the log, and how far it is applied
//	/deletion_log           for a collector; what it names is gone from the buckets
//
// The layouts differ in the directory, which says in which bucket a key is, and in
// the width of identifiers:
//
//	empty       no buckets
//	attribute   a JSON object, names of keys to numbers of buckets
//	dataset     rows of the dataset /directory
//	sharded     rows of the datasets in the group /directory
//	256-bit     keys and values of 256 bits, the log in a file next to the store
//
// and of this module
//
//	format-1    what it wrote before format 2; its tables are with the code
//
// Keys of the other layouts of the Python package have 128 bits and values 64. A key is in the store if a bucket
// has an entry of it: the directory is only compared with the buckets, because the
// Python package has left it out of date.
//
// # Masks
//
// A state mask is a code word of package ecc, of which bit i says that slot i holds
// a value; no bit: the values are in /values/sp. One writer kept the plain number 1
// in all entries, see reader.findMasks.
//
// # Format 1
//
// It is read from the commit slots on, without HDF5, and all that is taken has a
// checksum that is right: the entries of buckets one by one, the values of a set by row
// or node. The log is read by package wal, which still reads that of format 1.
//
// # Damage
//
// What is damaged is reported as a Defect, with its place, and left out; all else is
// read. Only if nothing can be read for it does Read fail. A failure of the disk is
// no damage, and always one of Read.
package legacy
