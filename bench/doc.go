// Bench compares CIDStore with other embedded stores written in Go, on one job:
// a set of 128-bit values for each 128-bit key. README.md says what is measured
// and how to run it.
//
// The parent process (parent.go) runs each workload on each engine in a child
// process (child.go), which returns named measurements; rows.go lists their names,
// table.go prints them.
package main
