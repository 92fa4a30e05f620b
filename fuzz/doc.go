// Package fuzz compares a store with a model, a plain map in memory that says what the
// store must answer. A Machine runs a program of steps on both: writes, reads, snapshots,
// readers that stand for other processes, checkpoints, reopening with other options,
// faults, power cuts, backups. A Source makes the choices of a program. It is a property
// test, the bytes of a native fuzz target, or a seed.
//
// The package is only for tests. Its own tests are the campaigns: programs of steps,
// programs that must have the same result under other geometry, images of files with
// damage, and arbitrary bytes in place of a file.
//
// make programs runs 100,000 programs of steps in memory: runs of 1,000, with seeds of their
// own, on all processors. make programs FROM=38 goes on with the 38th run.
package fuzz
