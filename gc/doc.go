// Package gc keeps the deletion log: what was deleted from the store and is not yet
// collected, oldest first. Background runs a collector at intervals.
//
// A row of the log is a Record: one value of a key, or a whole key. Rows are
// written by the commit that removes the values from the tree, so the log and the
// tree always agree. A row of one value says where a tombstone may be; a whole key
// leaves no tombstones. Clear drops rows that were handled.
package gc
