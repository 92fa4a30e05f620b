package golden

import (
	"strings"
	"testing"
)

// TestDump: each byte is in the text once, so that a change of any changes the text.
func TestDump(t *testing.T) {
	content := []byte("magic!\x01\x02\x03\x04" + strings.Repeat("\x00", 40) + "some words that are longer than a line" + strings.Repeat("\x05", 30))
	text := func() string {
		d := New(t, content)
		d.Structure("record", 10, func() {
			d.Field("zeros", 40)
			d.Structure("head", 0, func() { d.Field("magic", 6); d.Uint("number", 4) })
			d.Field("words", 38)
		})
		return d.String()
	}
	before := text()
	const want = `head
       0  magic                     6d 61 67 69 63 21                                magic!
       6  number                    01 02 03 04
record
      10  zeros                     40 times 00
      50  words                     73 6f 6d 65 20 77 6f 72 64 73 20 74 68 61 74 20  some words that
      66                            61 72 65 20 6c 6f 6e 67 65 72 20 74 68 61 6e 20  are longer than
      82                            61 20 6c 69 6e 65                                a line
      88  not in use                30 bytes, crc32 f9898f04
`
	if before != want {
		t.Errorf("got\n%s\nwant\n%s", before, want)
	}
	for i := range content {
		content[i] ^= 1
		if text() == before {
			t.Errorf("byte %d changes nothing", i)
		}
		content[i] ^= 1
	}
}
