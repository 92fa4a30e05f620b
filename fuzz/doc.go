// Package fuzz holds a store against a model: a plain map in memory that says what
// the store must answer. A Machine runs a program of steps on both: writes, reads,
// snapshots, readers in other processes' place, checkpoints, reopening with other
// options, faults, power cuts, backups. A Source makes the choices of a program: a
// property test, the bytes of a native fuzz target, or a seed.
//
// The package is for tests alone. Its own tests are the campaigns: programs of
// steps, programs that must end alike under other geometry, images of files with
// damage, and arbitrary bytes in a file's place.
package fuzz
