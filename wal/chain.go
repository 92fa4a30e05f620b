package wal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/cidstore/cidstore/internal/seedbug"
)

// ErrTampered: the checksums of a frame agree and its MAC does not. Somebody
// wrote those records who has not the log key, or changed what they follow.
var ErrTampered = errors.New("log is tampered with")

// DeriveKey returns the log key: salt itself, or, with a secret, what only its
// owner can compute from salt.
func DeriveKey(secret, salt []byte) []byte {
	if len(secret) == 0 {
		return append([]byte(nil), salt...)
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("cidstore log"))
	mac.Write(salt)
	return mac.Sum(nil)
}

// KeyCheck returns the value by which a file reports whether a log key is its own.
func KeyCheck(key []byte, uuid [16]byte) [16]byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("cidstore key check"))
	mac.Write(uuid[:])
	return [16]byte(mac.Sum(nil))
}

// chain computes the MACs of the frames of one epoch, one after the other. Not
// safe for concurrent use.
type chain struct {
	mac    hash.Hash
	head   [8 + macSize]byte    // epoch, MAC of the frame before
	commit [2 * RecordSize]byte // a TXN_COMMIT as the MAC covers it
	sum    [macSize]byte        // of the frame last ended
}

// newChain continues after the frame whose MAC is before.
func newChain(key []byte, epoch uint64, before [macSize]byte) *chain {
	if seedbug.On("epoch-dropped") {
		epoch = 0
	}
	c := &chain{mac: hmac.New(sha256.New, key)}
	binary.LittleEndian.PutUint64(c.head[:], epoch)
	c.restart(before)
	return c
}

// begin starts the frame after the one last ended.
func (c *chain) begin() {
	copy(c.head[8:], c.sum[:])
	c.mac.Reset()
	c.mac.Write(c.head[:])
}

// add takes whole records of the frame, in order, any number at a time.
func (c *chain) add(records []byte) { c.mac.Write(records) }

// end takes the frame's TXN_COMMIT, whatever its checksum and MAC fields hold,
// leaves the frame's MAC in c.sum and begins the next frame.
func (c *chain) end(commit []byte) {
	n := copy(c.commit[:], commit)
	clear(c.commit[offChecksum : offChecksum+4])
	clear(c.commit[offMAC : offMAC+macSize])
	c.mac.Write(c.commit[:n])
	c.mac.Sum(c.sum[:0])
	c.begin()
}

// restart continues after a frame whose MAC is before.
func (c *chain) restart(before [macSize]byte) {
	c.sum = before
	c.begin()
}
