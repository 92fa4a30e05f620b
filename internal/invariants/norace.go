//go:build !race

package invariants

// Sparse is 1: tests make every case of a search.
const Sparse = 1
