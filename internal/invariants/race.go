//go:build race

package invariants

// Sparse: of a search that one goroutine makes case by case, tests make only one
// case in this many, because a race needs two goroutines. Without the race detector
// tests make all cases. Sparse has no divisor in common with 2 and 10, so that
// steps of it come to every bit.
const Sparse = 11
