// Package wal is the log. It makes an operation durable before the tree of the
// file has it. It writes frames into a ring and finds them again after a crash. It
// does not know how an operation is applied.
//
// # Terms
//
//   - record: 40 bytes. Its sequence, counted from the first block of the file's
//     first log, decides its place in the ring and seeds its checksum.
//   - block: the unit that the disk writes completely or not at all. It has as many
//     records as fit. Zeros fill the rest; the checksum of the last record covers them.
//   - frame: the records of one append, any pads, a TXN_TIME, and the TXN_COMMIT that
//     ends it. Its MAC covers the frame and the MAC of the frame before: the chain.
//   - group: the frames of one write and sync. It begins and ends at a block, so
//     that a write that is torn never damages a block with acknowledged records.
//   - ring: the place of the records, overwritten from the start when it is full.
//   - epoch: the records that one life of the log has written. A life lasts from one
//     open for writing to the next. The number of the epoch is in every checksum and
//     MAC.
//   - watermark: a sequence up to which everything is known to be durable. Each
//     TXN_TIME holds the watermark of the moment when it was written.
//   - anchor: the MAC before the first frame that may have to be read.
//   - tail: the oldest sequence that may not be overwritten.
//
// In the ring, with the oldest records on the left:
//
//	         tail                     mark   next
//	| free    | frame | frame | … | frame |   | free      |
//	                            ^ watermark
//
// # Invariants
//
//	I1. A sequence is written at most once in an epoch, an epoch's number is
//	    never used twice, and both are in each checksum: a record with the right
//	    checksum was written by this life at this place of the log.
//	I2. Blocks that hold a record from the tail on are never written again.
//	I3. A frame counts if the checksums of all its records are right, its MAC
//	    continues the chain and its TXN_COMMIT is there; otherwise nothing of it
//	    counts.
//	I4. A watermark is written only after the sync that makes it true. A record
//	    with a wrong checksum is damage if a watermark reaches it. After all
//	    watermarks it is the torn end of a write that was not acknowledged.
//	I5. With Append nothing is applied before it is durable. No write follows a
//	    write that failed.
//
// # How a life begins
//
// Frames past the watermark may be in the page cache only, and some of them may have
// been acknowledged. So a life that finds such frames keeps them unchanged until
// their copies are durable:
//
//  1. Scan.
//  2. If there are frames past the watermark, and Config.Fits finds room for them, add
//     NextEpoch.Reserved, which is empty, after the present epoch, which stays open. It
//     replaces one that an earlier attempt left there (InUse). Make both slots durable.
//     The number is now used up.
//  3. Call New with that epoch, and WriteAgain with those frames.
//  4. End the old epochs at the watermark + 1 (EndEpochs), open the new one, and make
//     both slots durable. If there are no frames past the watermark, this follows Scan
//     and New.
//
// After a crash before step 4 the next life reads the old epoch as before, ignores
// the copies, and takes a higher number.
//
// # Locks
//
// A Log has three locks, which are taken in this order: write (one write to the ring
// at a time), order (what the next frame is made from) and mu (what others may read).
// mu is held only for moments. write is held across a sync. Append holds order across
// a sync too, because operations are applied in order, after they are durable.
package wal
