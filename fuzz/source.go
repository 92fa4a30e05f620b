package fuzz

import "math/rand/v2"

// Source makes the choices of a program.
type Source interface {
	// Choose returns a number from 0 to n-1; n is at least 1. what says what it is for.
	Choose(what string, n int) int
}

// Random is a source that draws from a seed.
type Random struct{ *rand.Rand }

// NewRandom returns the source that draws from a seed.
func NewRandom(seed uint64) Random { return Random{rand.New(rand.NewPCG(seed, 0x636964))} }

// Choose returns a random number from 0 to n-1.
func (r Random) Choose(_ string, n int) int { return r.IntN(n) }

// Bytes is the source of a fuzzed program. Each choice takes one byte, or two if it has
// more than 256 outcomes. After the last byte every choice is 0.
type Bytes struct{ Rest []byte }

// Choose takes the next byte or two.
func (b *Bytes) Choose(_ string, n int) int {
	c := b.next()
	if n > 256 {
		c = c<<8 | b.next()
	}
	return c % n
}

func (b *Bytes) next() int {
	if len(b.Rest) == 0 {
		return 0
	}
	c := b.Rest[0]
	b.Rest = b.Rest[1:]
	return int(c)
}
