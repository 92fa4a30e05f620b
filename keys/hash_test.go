package keys_test

import (
	"encoding/binary"
	"math/bits"
	"testing"

	"github.com/cidstore/cidstore/keys"
	"pgregory.net/rapid"
)

// siphash24 is SipHash-2-4 of 16 bytes, as in the paper of Aumasson and Bernstein:
// words of the message are little-endian, and the last block has the length in its
// top byte.
func siphash24(k0, k1 uint64, message [16]byte) uint64 {
	v0, v1 := k0^0x736f6d6570736575, k1^0x646f72616e646f6d
	v2, v3 := k0^0x6c7967656e657261, k1^0x7465646279746573
	rounds := func(n int) {
		for range n {
			v0 += v1
			v1 = bits.RotateLeft64(v1, 13) ^ v0
			v0 = bits.RotateLeft64(v0, 32)
			v2 += v3
			v3 = bits.RotateLeft64(v3, 16) ^ v2
			v0 += v3
			v3 = bits.RotateLeft64(v3, 21) ^ v0
			v2 += v1
			v1 = bits.RotateLeft64(v1, 17) ^ v2
			v2 = bits.RotateLeft64(v2, 32)
		}
	}
	for _, m := range []uint64{
		binary.LittleEndian.Uint64(message[:8]), binary.LittleEndian.Uint64(message[8:]), 16 << 56,
	} {
		v3 ^= m
		rounds(2)
		v0 ^= m
	}
	v2 ^= 0xff
	rounds(4)
	return v0 ^ v1 ^ v2 ^ v3
}

func TestHashOfThePublishedVector(t *testing.T) {
	// Reference implementation, key 00…0f, message 00…0f.
	hasher := keys.NewHasher([2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908})
	e := keys.E{High: 0x0001020304050607, Low: 0x08090a0b0c0d0e0f}
	if got, want := hasher.Hash(e), uint64(0x3f2acc7f57c29bdb); got != want {
		t.Errorf("Hash = %#x, want %#x", got, want)
	}
}

func TestHashIsSipHashOfTheBigEndianBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := [2]uint64{rapid.Uint64().Draw(t, "k0"), rapid.Uint64().Draw(t, "k1")}
		e := anyE.Draw(t, "e")
		if got, want := keys.NewHasher(seed).Hash(e), siphash24(seed[0], seed[1], e.Bytes()); got != want {
			t.Fatalf("Hash of %s under %x = %#x, want %#x", e, seed, got, want)
		}
	})
}

func TestHashSpreadsSmallNumbers(t *testing.T) {
	const shards, perShard = 256, 100
	var counts [shards]int
	hasher := keys.NewHasher([2]uint64{1, 2})
	for i := range uint64(shards * perShard) {
		counts[hasher.Hash(keys.FromUint64(i))>>56]++
	}
	for shard, n := range counts { // ten is the standard deviation
		if n < perShard-60 || n > perShard+60 {
			t.Errorf("top byte %#x: %d of %d keys, want about %d", shard, n, shards*perShard, perShard)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	hasher, e := keys.NewHasher([2]uint64{1, 2}), keys.FromString("hello")
	for b.Loop() {
		e.Low = hasher.Hash(e)
	}
}

func BenchmarkParse(b *testing.B) {
	text := keys.FromString("hello").String()
	for b.Loop() {
		if _, err := keys.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}
