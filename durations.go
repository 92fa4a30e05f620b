package cidstore

import (
	"math"
	"sync/atomic"
	"time"
)

// The shape of Durations is that of native histograms of Prometheus.
const (
	// DurationSchema says that there are 2^2 buckets for each doubling.
	DurationSchema = 2
	// DurationBuckets is the number of buckets.
	DurationBuckets = 144
	// DurationFirst is the number of the first bucket. Bucket n counts durations of up
	// to 2^(n/4) seconds that are too long for the bucket before it.
	DurationFirst = -24<<DurationSchema + 1
	// DurationZero is the bound of Durations.Zero in seconds, 2^-24: 60 ns.
	DurationZero = 0x1p-24
)

// Durations counts how long something took each time.
type Durations struct {
	Sum     time.Duration
	Zero    uint64                  // durations of up to DurationZero
	Buckets [DurationBuckets]uint64 // from DurationFirst on; the last one also counts longer ones
}

// Count returns how many durations there are.
func (d *Durations) Count() uint64 {
	count := d.Zero
	for _, n := range d.Buckets {
		count += n
	}
	return count
}

// durations are Durations that goroutines can add to.
type durations struct {
	sum     atomic.Int64
	zero    atomic.Uint64
	buckets [DurationBuckets]atomic.Uint64
}

// observe counts one duration, which is negative if the clock was set back since it began.
func (h *durations) observe(d time.Duration) {
	d = max(d, 0)
	h.sum.Add(int64(d))
	// Log2 of a power of two is exact, so a duration equal to a bound is in the bucket below.
	n := math.Ceil(math.Log2(d.Seconds()) * (1 << DurationSchema))
	if n < DurationFirst {
		h.zero.Add(1)
		return
	}
	h.buckets[min(int(n)-DurationFirst, DurationBuckets-1)].Add(1)
}

func (h *durations) load() (d Durations) {
	d.Sum, d.Zero = time.Duration(h.sum.Load()), h.zero.Load()
	for i := range h.buckets {
		d.Buckets[i] = h.buckets[i].Load()
	}
	return d
}
