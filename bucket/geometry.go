package bucket

import "fmt"

const (
	// MinThreshold and MaxThreshold bound a Geometry's Threshold. With one key in a
	// bucket the directory would always be as deep as it may be; and 16 bits must
	// suffice to number the entries of a group of the largest buckets.
	MinThreshold, MaxThreshold = 2, 1024

	mostBuckets   = 64     // of a group
	mostChunk     = 128    // entries of a chunk
	mostCapacity  = 65_535 // entries of a group: 16 bits number them
	leastCapacity = 256    // so that a group that no directory can divide has room
)

// Geometry is the shape of a file's groups; it never changes in a file.
type Geometry struct {
	Threshold int // most live keys of a bucket
	Buckets   int // most buckets of a group: a power of two
	Chunk     int // entries, and more rows, of a chunk of the datasets; a multiple of 4
	Capacity  int // most entries of a group; a multiple of Chunk
}

// NewGeometry returns the shape for a split threshold. Small buckets make small
// groups: about half as many buckets as a bucket has keys, up to 64.
func NewGeometry(threshold int) Geometry {
	g := Geometry{Threshold: threshold, Buckets: 1, Chunk: min(mostChunk, (threshold+3)/4*4)}
	for g.Buckets < mostBuckets && 4*g.Buckets <= threshold {
		g.Buckets *= 2
	}
	g.Capacity = min(max(g.Buckets*threshold, leastCapacity), mostCapacity)
	g.Capacity = g.Capacity / g.Chunk * g.Chunk
	return g
}

// Few is half of the number of entries at which a group is split.
func (g Geometry) Few() int { return min(g.Capacity, g.Buckets*g.Threshold) / 2 }

// check reports why a file cannot have this shape.
func (g Geometry) check() error {
	if g.Threshold < MinThreshold || g.Threshold > MaxThreshold {
		return fmt.Errorf("split threshold %d, want %d to %d", g.Threshold, MinThreshold, MaxThreshold)
	}
	if want := NewGeometry(g.Threshold); g != want {
		return fmt.Errorf("geometry %+v, want %+v", g, want)
	}
	return nil
}

// stride is the number of chunks that the datasets have for each group.
func (g Geometry) stride() uint64 { return uint64(g.Capacity / g.Chunk) }

func (g Geometry) chunkBytes() int { return g.Chunk * EntrySize }

// chunks is the number of chunks that n entries or more rows take.
func (g Geometry) chunks(n int) int { return (n + g.Chunk - 1) / g.Chunk }

// RowBytes is the size of the row of a group of items, in bytes.
func (g Geometry) RowBytes(items []Item) int {
	return (g.chunks(len(items)) + g.chunks(countMores(items))) * g.chunkBytes()
}

// pageSize is the size of a group's page, in bytes.
func (g Geometry) pageSize() int { return pageHeader + g.Buckets*bucketSize + g.Capacity*tagSize }
