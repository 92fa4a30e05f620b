package wal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/cidstore/cidstore/internal/seedbug"
)

// ErrTampered says that the checksums of a frame are right and its MAC is wrong.
// Somebody who does not have the log key wrote those records, or changed the frames
// before them.
var ErrTampered = errors.New("log is tampered with")

// DeriveKey returns the log key. Without a secret the key is salt itself. With a
// secret only its owner can compute the key from salt.
func DeriveKey(secret, salt []byte) []byte {
	if len(secret) == 0 {
		return append([]byte(nil), salt...)
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("cidstore log"))
	mac.Write(salt)
	return mac.Sum(nil)
}

// KeyCheck returns the value that a file stores in order to recognize its log key.
func KeyCheck(key []byte, uuid [16]byte) [16]byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("cidstore key check"))
	mac.Write(uuid[:])
	return [16]byte(mac.Sum(nil))
}

// chain computes the MACs of the frames of one epoch, one after another. It is not
// safe for concurrent use.
type chain struct {
	mac    hash.Hash
	head   [8 + macSize]byte    // epoch, MAC of the frame before
	commit [2 * RecordSize]byte // a TXN_COMMIT as the MAC covers it
	sum    [macSize]byte        // of the frame that ended last
}

// newChain returns a chain that continues after the frame whose MAC is before.
func newChain(key []byte, epoch uint64, before [macSize]byte) *chain {
	if seedbug.On("epoch-dropped") {
		epoch = 0
	}
	c := &chain{mac: hmac.New(sha256.New, key)}
	binary.LittleEndian.PutUint64(c.head[:], epoch)
	c.restart(before)
	return c
}

// begin starts the next frame.
func (c *chain) begin() {
	copy(c.head[8:], c.sum[:])
	c.mac.Reset()
	c.mac.Write(c.head[:])
}

// add adds complete records of the frame, in order and any number at a time.
func (c *chain) add(records []byte) { c.mac.Write(records) }

// end adds the frame's TXN_COMMIT, whatever its checksum and MAC fields hold. It
// leaves the MAC of the frame in c.sum and begins the next frame.
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
