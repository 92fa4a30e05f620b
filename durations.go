package cidstore

import (
	"math"
	"sync/atomic"
	"time"
)

// DurationBuckets is the number of buckets of Durations.
const DurationBuckets = 128

// The buckets of Durations: four to each doubling, from bound 2^-20 s to 2^12 s.
const (
	bucketsPerDoubling = 4
	firstBucket        = -20*bucketsPerDoubling + 1
)

// Durations says how long something took each time. Bucket i counts those of more than
// 2^((i-80)/4) seconds and up to 2^((i-79)/4): a native histogram of schema 2. The last
// counts all that took longer, too.
type Durations struct {
	Sum     time.Duration
	Zero    uint64 // those of up to 2^-20 seconds
	Buckets [DurationBuckets]uint64
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

// observe counts what took d, less than nothing if the clock was set back meanwhile.
func (h *durations) observe(d time.Duration) {
	d = max(d, 0)
	h.sum.Add(int64(d))
	// Log2 of a power of two is exact: a bound counts for the bucket below it.
	n := math.Ceil(math.Log2(d.Seconds()) * bucketsPerDoubling)
	if n < firstBucket {
		h.zero.Add(1)
		return
	}
	h.buckets[min(int(n)-firstBucket, DurationBuckets-1)].Add(1)
}

func (h *durations) load() (d Durations) {
	d.Sum, d.Zero = time.Duration(h.sum.Load()), h.zero.Load()
	for i := range h.buckets {
		d.Buckets[i] = h.buckets[i].Load()
	}
	return d
}
