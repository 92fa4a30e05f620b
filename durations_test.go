package cidstore

import (
	"math"
	"testing"
	"time"
)

// TestDurationsBounds: every duration is in the bucket whose bounds hold it, and one
// out of all bounds in the nearest.
func TestDurationsBounds(t *testing.T) {
	bound := func(i int) float64 { return math.Exp2(float64(i-95) / 4) } // upper one of bucket i
	for _, d := range []time.Duration{
		1, 59, 60, 953, 954, 1000, time.Microsecond * 17, time.Millisecond, 15625 * time.Microsecond, time.Second / 4, time.Second,
		time.Second + 1, 2 * time.Second, time.Hour, 4096 * time.Second,
	} {
		var h durations
		h.observe(d)
		got := h.load()
		if got.Sum != d || got.Count() != 1 {
			t.Errorf("%v: sum %v, count %d", d, got.Sum, got.Count())
		}
		if got.Zero == 1 {
			if d.Seconds() > bound(-1) {
				t.Errorf("%v is in the zero bucket", d)
			}
			continue
		}
		for i, n := range got.Buckets {
			if n == 1 && (d.Seconds() <= bound(i-1) || d.Seconds() > bound(i)) {
				t.Errorf("%v is in bucket %d, from %v to %v", d, i, bound(i-1), bound(i))
			}
		}
	}
	var h durations
	for _, d := range []time.Duration{math.MinInt64, -1, 0} {
		h.observe(d)
	}
	h.observe(math.MaxInt64)
	if got := h.load(); got.Zero != 3 || got.Buckets[DurationBuckets-1] != 1 {
		t.Errorf("%d are zero, %d very long", got.Zero, got.Buckets[DurationBuckets-1])
	}
}
