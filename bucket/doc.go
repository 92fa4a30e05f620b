// Package bucket keeps hash entries: it finds the entry of a key, folds changes
// into the rows of groups, and keeps other changes waiting in runs.
//
// Terms:
//
//   - An item is one key with its values, or with the number of the set that
//     holds them, in memory. An entry is an item in the file.
//   - A bucket is the entries whose hashes share a prefix, at most as many as the
//     split threshold.
//   - A group is up to 64 neighbouring buckets: what the directory points to.
//   - The row of a group is its sorted entries, one extent: chunks of entries,
//     then chunks of more rows, the values 2 to 4 of those entries that have them.
//   - The page of a group says where its row lies and how it is divided into
//     buckets. It has the checksum of each bucket and the tag of each entry.
//   - A tag is sixteen bits of a hash, after the bits that all hashes of a bucket
//     or slot have in common.
//   - A run is the sorted entries that one commit has added to many groups. It
//     is divided into slots of equal parts of hash space.
//   - To fold a group is to write its row again, with all that waits for it in
//     runs; after that, these entries no longer count.
//
// A lookup asks the runs that are newer than the group, the newest first, and then
// the row:
//
//	page of a group                       row of the group
//	┌─────────────────────────────┐      ┌──────────┬──────────┬─────┬───────────┐
//	│ row_address, commit         ┼─────▶│ bucket 0 │ bucket 1 │  …  │ more rows │
//	│ bucket 0: end, crc │ 1: … │ │      └──────────┴──────────┴─────┴───────────┘
//	│ tags of all entries         │      run 812   ┌──────┬──────┬──────┬─────────┐
//	└─────────────────────────────┘                │ slot │ slot │  …   │ tags    │
//	                                     run 815   └──────┴──────┴──────┴─────────┘
//
// Invariants; if one of them fails, a Table returns an error that matches
// corrupt.Err, and no answer:
//
//	B1  Entries of a row and of a run are in order of (hash, key), each key
//	    once; those of a bucket or slot are under its prefix.
//	B2  A page, bucket or slot is as described by what leads to it: address, commit,
//	    checksum. So a stale, lost or misplaced block is noticed.
//	B3  If the checksum of a bucket or slot disagrees, entries are verified one
//	    by one: a good one is returned; a key that is not among them is not "absent".
//	    A lookup in a row verifies only the entry that has the key's tag: the tags are
//	    under the page's checksum, and show which keys are absent.
//	B4  A mask with one wrong bit is corrected only if the entry's checksum,
//	    computed with the corrected mask, agrees.
//	B5  A bucket has at most split_threshold entries, unless only a directory
//	    with more than 64 pointers for each group could divide it.
//	B6  An entry of a run counts for a group if the run's number is above the
//	    commit of the group's row, and its hash lies in the run's bounds. The
//	    newest that counts supersedes the others and the row.
//	B7  The live count of a run is the number of its entries that count; the
//	    commit that makes it zero removes the run.
//	B8  More rows are numbered in the order of their entries without gaps, and
//	    entries and more rows of a row that are not used are zero.
//
// What was verified is marked, on the pages and runs that Views share, so that it
// is verified once. That a key is absent is trusted because the tags were verified.
// Damage since then is found by Check, and by readers that always verify.
package bucket
