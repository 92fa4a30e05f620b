//go:build !linux

package main

import "math"

// What only Linux reports is left out of the table on other systems.

func cpuTime() float64             { return math.NaN() }
func ownMemory() float64           { return math.NaN() }
func syncDisks()                   {}
func deviceWritten(string) float64 { return math.NaN() }
func inMemory(string) bool         { return false }
func processor() string            { return "" }
