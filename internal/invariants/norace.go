//go:build !race

package invariants

// Sparse: tests make every case of a search.
const Sparse = 1
