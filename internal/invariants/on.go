//go:build invariants || race

// Package invariants switches costly checks of the store's own promises on, in
// builds with the tag invariants and under the race detector.
package invariants

// Enabled says that a broken promise panics where it is noticed.
const Enabled = true
