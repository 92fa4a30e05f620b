package main

import (
	"math/bits"
	"time"
)

var started = time.Now()

// now returns nanoseconds since the start; it costs less than time.Now.
func now() int64 { return int64(time.Since(started)) }

// seconds returns how long it is since start, a result of now.
func seconds(start int64) float64 { return float64(now()-start) / 1e9 }

// histogram counts latencies in nanoseconds, in 128 buckets for each octave.
// Quantiles are exact to 0.8 %; the maximum is exact.
type histogram struct {
	count, max uint64
	buckets    [4608]uint32 // up to 2^42 ns, more than an hour
}

func bucketOf(ns uint64) int {
	if ns < 128 {
		return int(ns)
	}
	octave := bits.Len64(ns) - 8
	return min(octave*128+int(ns>>octave), len(histogram{}.buckets)-1)
}

func (h *histogram) add(ns int64) {
	v := uint64(max(ns, 0))
	h.buckets[bucketOf(v)]++
	h.count++
	h.max = max(h.max, v)
}

func (h *histogram) merge(o *histogram) {
	h.count += o.count
	h.max = max(h.max, o.max)
	for i, c := range o.buckets {
		h.buckets[i] += c
	}
}

// quantile returns the upper edge of the bucket that holds the quantile, in
// nanoseconds, or 0 if nothing was counted.
func (h *histogram) quantile(q float64) float64 {
	want, got := uint64(q*float64(h.count)+0.5), uint64(0)
	for i, c := range h.buckets {
		if got += uint64(c); got < want || got == 0 {
			continue
		}
		if i < 256 {
			return float64(i)
		}
		octave := i/128 - 1
		return min(float64((uint64(i-octave*128)+1)<<octave-1), float64(h.max))
	}
	return float64(h.max)
}
