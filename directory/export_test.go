package directory

// Depth is the global depth, in bits.
func (d *Directory) Depth() int { return d.depth }

// At returns pointer i, of Len.
func (d *Directory) At(i int) Pointer { return pointerAt(d.pages, uint64(i)) }

// Find returns the pointer of a hash as edited so far.
func (e *Editor) Find(hash uint64) Pointer { return pointerAt(e.pages, hash>>uint(64-e.depth)) }
