// Package legacy reads the stores of the Python package that came before this
// module, and stores of format 1 of this module. It never writes.
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
// In the other layouts of the Python package keys have 128 bits and values 64. A
// key is in the store if a bucket has an entry of it. The directory is only
// compared with the buckets, because the Python package may have left it out of
// date.
//
// # Masks
//
// A state mask is a code word of package ecc. Bit i of its data says that slot i
// holds a value; if no bit is set, the values are in /values/sp. One writer put the
// plain number 1 into all entries; see reader.findMasks.
//
// # Format 1
//
// A store of format 1 is read without HDF5, beginning with its commit slots. Only
// what has a correct checksum is taken: entries of buckets one by one, the values
// of a set by row or node, and the frames of the log.
//
// # Damage
//
// What is damaged is reported as a Defect, with its place, and left out; everything
// else is read. Read fails only if damage leaves nothing to read. A failure of the
// disk is not damage, and always makes Read fail.
package legacy
