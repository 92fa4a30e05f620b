//go:build race

package invariants

// Sparse: of a search that one goroutine makes case by case, tests make one case in
// so many. A race needs two goroutines; without the detector all cases are made. It
// has no divisor in common with 2 and 10, so that steps of it come to every bit.
const Sparse = 11
