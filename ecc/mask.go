package ecc

import "math/bits"

// Slots is the number of bits that a mask protects.
const Slots = 4

// Mask is a code byte whose four bits say which of four slots are taken: bit i
// stands for slot i.
type Mask uint8

// InvalidMask decodes as Uncorrectable. It is not the mask of any count of slots.
const InvalidMask Mask = 0x03

// MaskOf returns the mask with the first n slots taken, n from 0 to Slots. Any
// other n gives InvalidMask, which no reader mistakes for a set of slots.
func MaskOf(n int) Mask {
	if n < 0 || n > Slots {
		return InvalidMask
	}
	return Mask(Encode(1<<n - 1))
}

// Data returns the four bits, as Decode does.
func (m Mask) Data() (data uint8, status Status) { return Decode(uint8(m)) }

// Count returns how many slots are taken. It is ok if they are the first n, and
// not ok if a slot before the last taken one is free or the mask is Uncorrectable.
func (m Mask) Count() (n int, ok bool) {
	data, status := m.Data()
	if status == Uncorrectable || data&(data+1) != 0 {
		return 0, false
	}
	return bits.Len8(data), true
}

// Correct returns the code word that m stands for: m itself when OK, the word
// one bit away when Corrected, and m unchanged when Uncorrectable.
func (m Mask) Correct() (Mask, Status) {
	data, status := m.Data()
	if status == Uncorrectable {
		return m, status
	}
	return Mask(Encode(data)), status
}
