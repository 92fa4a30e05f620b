// Package hdf5io is an HDF5 file as a copy-on-write database: atomic commits,
// old roots as snapshots, one writer and any number of readers, and a file that
// every HDF5 program opens at any time.
//
// # Terms
//
//	extent   a range of the file, at a multiple of 64 bytes and padded to one
//	root     the header of the group / and all that is reached from it; numbered by its commit
//	slot     one of two blocks of 4,096 bytes that name a root and how to verify it
//	View     one root in memory: its tree of headers, and its chunk maps
//	Tx       the one write transaction
//	page     a chunk of a dataset with a chunk map, which verifies it
//	pool     free space that a Tx may use now
//	limbo    space that a commit freed and that an older root may still reach
//	pin      what keeps an old root: a counter of its View for readers in this
//	         process, a locked byte of the file for those in others
//	settled  both slots name the newest root
//
// # The file
//
//	0           4096     8192     12288                         end of file
//	+-----------+--------+--------+------------------------------+
//	| superblock| slot 0 | slot 1 | extents: live, freed, free   |
//	+-----------+--------+--------+------------------------------+
//	      :        |         |
//	      :        |         +--> root n-1 --+--> chunks, nodes, headers that both reach
//	      :        +------------> root n ----+
//	      :......... root n, once the slot is durable
//
// # Invariants
//
//	I1  A byte that the root of a valid slot reaches is not written, nor is its
//	    sector; only regions (the log) are, in place, by their owner.
//	I2  A slot is written after all that its root reaches is durable, and the file's size.
//	I3  The superblock equals one of two valid slots, or is torn.
//	I4  What commit n freed is used again once both slots name commit n or a
//	    later one, and no process has a pin on a commit before n; pins are
//	    looked at after n was published and adopted.
//	I5  Used, free and freed extents of a root cover the file from 12,288 to its end,
//	    each byte once.
//	I6  After a failed write or sync nothing more is written. A full disk found while
//	    placing data is not such a failure: nothing names that space.
//	I7  An opener for reading changes no byte of the file.
//	I8  Every length, count and address of the file is bounded before it is used.
//
// Locks are taken in the order File.slotMu, space.mu, pins.mu. slotMu is held across
// the sync and the slot of a commit, space.mu across growth of the file.
package hdf5io
