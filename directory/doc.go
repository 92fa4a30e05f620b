// Package directory maps the hash of a key to its bucket: extendible hashing. What is a
// bucket here, as in the literature, is a group in package bucket and in the file.
//
// A directory of depth D has 2^D pointers, and the top D bits of a hash are the
// index of its pointer. A bucket of local depth d holds the hashes that share d
// top bits, its prefix, and 2^(D-d) pointers in a row, its run, point to it:
//
//	depth 2   00 ─┐                       depth 2   00 ── bucket 0, local depth 2
//	          01 ─┴─ bucket 0, depth 1              01 ── bucket 2, local depth 2
//	          10 ─┐                  split          10 ─┐
//	          11 ─┴─ bucket 1, depth 1    ──▶       11 ─┴─ bucket 1, local depth 1
//
// A bucket whose run is a single pointer splits after the directory has doubled.
//
// Invariants:
//
//	I1  there are 2^depth pointers, depth from 0 to MaxDepth;
//	I2  a run has a power of two of pointers and begins at a multiple of it;
//	I3  a bucket has one run, and its id is below the number of buckets.
//
// In the file a directory has one of three forms, by its size: an attribute of
// /config, a chunked dataset, or a group of datasets. A Directory is immutable
// and safe for any number of readers; versions share the pages that are equal.
package directory
