package cidstore

import (
	"math"
	"sync/atomic"
	"time"
)

// The shape of Durations, that of native histograms of Prometheus.
const (
	// DurationSchema says that there are 2^2 buckets to each doubling.
	DurationSchema = 2
	// DurationBuckets is the number of buckets.
	DurationBuckets = 128
	// DurationFirst is the number of the first: bucket n counts what took up to
	// 2^(n/4) seconds, and more than the bucket before it.
	DurationFirst = -20<<DurationSchema + 1
	// DurationZero is the bound of Durations.Zero in seconds, 2^-20.
	DurationZero = 0x1p-20
)

// Durations says how long something took each time.
type Durations struct {
	Sum     time.Duration
	Zero    uint64                  // those of up to DurationZero
	Buckets [DurationBuckets]uint64 // from DurationFirst on; the last counts all that took longer, too
}

// Count is how often it took place.
func (d *Durations) Count() uint64 {
	count := d.Zero
	for _, n := range d.Buckets {
		count += n
	}
	return count
}

// durations is Durations while they are counted.
type durations struct {
	sum     atomic.Int64
	zero    atomic.Uint64
	buckets [DurationBuckets]atomic.Uint64
}

// observe counts what took d, less than nothing if the clock was set back since.
func (h *durations) observe(d time.Duration) {
	d = max(d, 0)
	h.sum.Add(int64(d))
	// Log2 of a power of two is exact: a bound counts for the bucket below it.
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
