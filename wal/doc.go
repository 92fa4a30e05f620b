// Package wal is the log: what makes an operation durable before the tree of
// the file has it. It writes frames into a ring, finds them again after a
// crash, and knows nothing of how an operation is applied.
//
// # Terms
//
//   - record: 40 bytes; its sequence, counted from the first block of the file's
//     first log, decides its place in the ring and seeds its checksum.
//   - block: what the disk writes whole or not at all: as many records as fit, and
//     less than one in zeros, which the checksum of the last record covers.
//   - frame: the records of one append, any pads, a TXN_TIME, and the TXN_COMMIT that
//     ends it. Its MAC covers the frame and the MAC of the frame before: the chain.
//   - group: the frames of one write and sync. It begins and ends at a block, so
//     that a write that is torn never damages a block with acknowledged records.
//   - ring: the place of the records, overwritten from the start when it is full.
//   - epoch: the records that one life of the log, from one open for writing to
//     the next, has written. Its number is in every checksum and MAC.
//   - watermark: a sequence up to which all is known to be durable. Each
//     TXN_TIME holds the one of its time.
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
//	    never used twice, and both are in each checksum: a record that passes
//	    was written by this life at this place of the log.
//	I2. Blocks that hold a record from the tail on are never written again.
//	I3. A frame counts if all its records pass, its MAC continues the chain and
//	    its TXN_COMMIT is there; else none of it does.
//	I4. A watermark is written only after the sync that it speaks of. A record
//	    at or below one that does not pass is damage; after all of them it is
//	    the torn end of a write that was not acknowledged.
//	I5. Sync: nothing is applied before it is durable. A failed write is
//	    followed by no other.
//
// # How a life begins
//
// Frames past the watermark may stand in the page cache alone, and some may have
// been acknowledged. So a life that finds such frames keeps them whole until
// their copies are durable:
//
//  1. Scan.
//  2. If there are frames past the watermark: add an empty epoch (End = First =
//     ScanReport.Next) after the present one, which stays open, in place of
//     one that an earlier attempt left there, and make both slots durable. The
//     number is now used up.
//  3. New with that epoch; Append the operations of those frames again, with
//     Config.Now at the time that each had.
//  4. End the old epoch at the watermark + 1 and open the new one (End = NoEnd);
//     make both slots durable. Without frames past the watermark this is the
//     first step after Scan, and New follows it.
//
// After a crash before step 4 the old epoch is read as before and the copies are
// not; the next life takes a higher number.
//
// # Locks
//
// A Log has three, taken in this order: write (one write to the ring at a time),
// order (what the next frame is made from) and mu (what others may read). mu is
// held for moments only; write is held across a sync, and so is order by Append,
// because operations are applied in their order, after they are durable.
package wal
