package keys

import (
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	hexDigits  = 2 * Size      // digits of an identifier
	uuidLength = hexDigits + 4 // 8-4-4-4-12
	urnPrefix  = "urn:uuid:"   // RFC 9562, section 4
	errorText  = 64            // bytes of a bad text that an error repeats
)

// String returns 32 lower-case hexadecimal digits, High first.
func (e E) String() string {
	var text [hexDigits]byte
	b := e.Bytes()
	hex.Encode(text[:], b[:])
	return string(text[:])
}

// AppendText appends the text of String to dst; the error is always nil.
func (e E) AppendText(dst []byte) ([]byte, error) {
	b := e.Bytes()
	return hex.AppendEncode(dst, b[:]), nil
}

// MarshalText returns the text of String; the error is always nil.
func (e E) MarshalText() ([]byte, error) { return e.AppendText(nil) }

// UnmarshalText is Parse. After an error e is unchanged.
func (e *E) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*e = parsed
	return nil
}

// Parse reads an identifier in one of these forms, with digits of either case: the
// 32 hexadecimal digits of String; the 36 characters 8-4-4-4-12 of a UUID, also in
// braces, or after urn:uuid: in either case; or 0x followed by 1 to 32 hexadecimal
// digits. Nothing else is accepted: no space, sign or other prefix. The error
// quotes the text, or its start if it is long.
func Parse(text string) (E, error) {
	e, ok := parse(text)
	if !ok {
		return E{}, parseError(text)
	}
	return e, nil
}

// ParseKey returns the identifier that a text stands for: the identifier that Parse
// finds in it, or else the UUIDv5 of the text as a name. So every text has one. A
// text that may be a mistyped identifier is a name too; Resembles finds such texts.
func ParseKey(text string) E {
	if e, ok := parse(text); ok {
		return e
	}
	return FromString(text)
}

func parse(text string) (e E, ok bool) {
	switch {
	case len(text) > 2 && len(text) <= 2+hexDigits && text[:2] == "0x":
		return parseDigits(text[2:])
	case len(text) == hexDigits:
		return parseDigits(text)
	case len(text) == uuidLength:
		return parseUUID(text)
	case len(text) == 1+uuidLength+1 && text[0] == '{' && text[1+uuidLength] == '}':
		return parseUUID(text[1 : 1+uuidLength])
	case len(text) == len(urnPrefix)+uuidLength && strings.EqualFold(text[:len(urnPrefix)], urnPrefix):
		return parseUUID(text[len(urnPrefix):])
	}
	return E{}, false
}

// parseDigits reads at most 32 hexadecimal digits as a number.
func parseDigits[T string | []byte](text T) (e E, ok bool) {
	for i := range len(text) {
		digit, ok := parseDigit(text[i])
		if !ok {
			return E{}, false
		}
		e = E{High: e.High<<4 | e.Low>>60, Low: e.Low<<4 | uint64(digit)}
	}
	return e, true
}

func parseDigit(c byte) (digit byte, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// parseUUID reads the 36 characters of a UUID.
func parseUUID(text string) (e E, ok bool) {
	if text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return E{}, false
	}
	var digits [hexDigits]byte
	copy(digits[0:], text[0:8])
	copy(digits[8:], text[9:13])
	copy(digits[12:], text[14:18])
	copy(digits[16:], text[19:23])
	copy(digits[20:], text[24:36])
	return parseDigits(digits[:])
}

func parseError(text string) error {
	const want = "want 32 hexadecimal digits, a UUID (plain, in braces or after urn:uuid:), or 0x and 1 to 32 digits"
	if len(text) > errorText {
		return fmt.Errorf("keys: %q... (%d bytes) is no identifier: %s", text[:errorText], len(text), want)
	}
	return fmt.Errorf("keys: %q is no identifier: %s", text, want)
}
