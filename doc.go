// Package cidstore maps 128-bit identifiers to sets of 128-bit identifiers, on
// disk, crash-safe, in pure Go. The database is one file, and that file is a
// real HDF5 file at every moment: h5py, h5dump and pandas read it as it is.
//
//	s, err := cidstore.Open("words.h5", nil)
//	…
//	err = s.Insert(cidstore.FromString("dog"), cidstore.FromString("dog.n.02084071"))
//	values, err := s.Lookup(cidstore.FromString("dog"))
//
// # How it works
//
// A write goes to a log inside the file, is made durable there, and is put into
// a table in memory, the fresh table. Then it is acknowledged. A checkpoint turns
// the fresh table into the frozen one and merges it into the tree of HDF5
// objects, one slice of the hash space after another. Each slice is one commit: it
// is written into free space and published by replacing one page. For most groups a
// commit only adds entries to a new run; some groups it folds, in turn. So an entry
// is written about three times in its life, however large the store is. Nothing that
// a committed root reaches is overwritten. So a kill or a power cut leaves either the
// root before or the root after, and the log has what the root lacks.
//
//	read:   fresh table → frozen table → View (directory → runs, group → set of values)
//	write:  admit → log (group commit) → fresh table → acknowledged
//	later:  fresh becomes frozen → slices → commits → the log's tail moves
//
// # Terms
//
//	key, value    identifiers, type E
//	bucket        the keys whose hashes share a prefix, sorted
//	group         up to 64 neighbouring buckets; the directory points to groups
//	run           entries of one commit that wait to be folded into their groups
//	entry         one key with up to four values, or the id of its spilled set
//	spilled set   the values of a key that has, or had, more than four
//	frame         the log records of one batch; all of it is replayed, or nothing
//	root, View    one committed state of the tree, immutable
//	slot          one of the two pages that name the newest two roots
//	pin           a reader's claim on a View: its space is not used again
//	life          the time from Open to Close of a store that is open for writing
//	upkeep        work that no writer waits for: collections, Maintain, scrubs, early checkpoints
//
// # Concurrency
//
// All methods of Store are safe for use by many goroutines. Readers never wait for a
// writer: they load one atomic pointer {fresh, frozen, View}. One process has the
// file open for writing; others read it with Options.ReadOnly and Refresh.
//
// Locks are taken in this order: collecting → closing → auditing or checkpointing →
// admission → the log's. The lock of admission is never held across a sync.
package cidstore
