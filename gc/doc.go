// Package gc keeps the deletion log: what was deleted from the store and is not
// yet collected, oldest first.
//
// A row of the log is a Record: one value of a key, or a whole key. Rows are
// written by the commit that takes the values out of the tree, so the log and
// the tree always agree. That commit also frees what the values held: a row is
// handled from its beginning, and Clear may drop it when the log is long.
package gc
