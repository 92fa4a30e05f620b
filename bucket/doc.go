// Package bucket keeps the rows of hash entries: it finds a key in one, merges
// changes into one, splits one.
//
// Terms:
//
//   - An item is one key with its values, or with the number of the set that
//     holds them, in memory. An entry is an item in the file.
//   - A bucket is the items whose hashes share a prefix of local depth bits.
//   - A row is a bucket's sorted entries: one extent of chunks of entries, then
//     chunks of more rows, the values 2 to 4 of those entries that have them.
//   - A tail is up to one chunk of later entries, an extent of its own. Each
//     supersedes the row's entry of its key, or says that the key is gone.
//   - A bucket's state says where its row and its tail lie, in which commits
//     they were written, and what their checksums are.
//   - An overflow row is a further row of a bucket that no split can divide.
//     Nothing but the bucket's chain, the next fields, leads to it.
//
// What belongs to one bucket:
//
//	/buckets/state   entries of the row, ascending        more rows
//	┌─────────────┐  ┌───────────────┬───────────────┐    ┌───────────────┐
//	│ row_address ┼─▶│ S entries     │ S entries     │ ───│ S more rows   │
//	│ tail_address┼┐ └───────────────┴───────────────┘    └───────────────┘
//	│ tags        ││ ┌───────────────┬───────────────┐
//	│ next ─▶ id  │└▶│ S entries     │ S more rows   │  the tail
//	└─────────────┘  └───────────────┴───────────────┘
//
// Invariants; a Table gives an error that matches corrupt.Err where one fails,
// and no answer:
//
//	B1  Items stand in order of (hash, key), each key once, every hash under
//	    the bucket's prefix.
//	B2  A row or tail is what the state says: address, commit, checksum. So a
//	    stale, lost or misplaced block is seen.
//	B3  Where the checksum of a row disagrees, entries are judged one by one:
//	    a good one is served; a key that is not among them is not "absent".
//	B4  A mask with one wrong bit is corrected only if the entry's checksum,
//	    computed with the corrected mask, agrees.
//	B5  A bucket has at most split_threshold live keys, a tail at most one chunk
//	    of entries, and a bucket with a chain has no tail anywhere in it.
//	B6  More rows are numbered in the order of their entries without gaps, and
//	    slots and more rows that are not used are zero.
//
// A row that was verified is marked on the page of its state, so that it is
// verified once for all Views that share the page. An absent key is trusted
// because its row was verified: rot since then is seen by Check, and by readers
// that verify always.
package bucket
