package keys

import (
	"strings"
	"unicode"
)

const (
	resemblingText = 128 // in bytes; a longer text was not meant as an identifier
	decimalDigits  = 39  // of the largest identifier
	slips          = 2   // how many digits may be missing or too many, and how many other characters among them
)

// Resembles reports whether a text that Parse does not accept may have been meant
// as an identifier: it begins with 0x or urn:uuid:, in either case; or it has 30 to
// 34 hexadecimal digits, and, apart from spaces, hyphens, underscores, brackets,
// quotes, and uuid: or urn: before them, at most two other characters; or it has 30
// to 39 decimal digits, as programs print numbers of 128 bits. It is a guess, meant
// for warnings: for ParseKey such a text is a name like any other.
func Resembles(text string) bool {
	if len(text) > resemblingText {
		return false
	}
	if _, ok := parse(text); ok {
		return false
	}
	lower := strings.ToLower(strings.TrimFunc(text, isDecoration))
	if strings.HasPrefix(lower, "0x") || strings.HasPrefix(lower, urnPrefix) {
		return true
	}
	digits, decimals, others := 0, 0, 0
	for _, c := range strings.TrimPrefix(strings.TrimPrefix(lower, "urn:"), "uuid:") {
		switch {
		case '0' <= c && c <= '9':
			digits++
			decimals++
		case 'a' <= c && c <= 'f':
			digits++
		case !isDecoration(c):
			others++
		}
	}
	most := hexDigits + slips
	if decimals == digits && others == 0 {
		most = decimalDigits
	}
	return digits >= hexDigits-slips && digits <= most && others <= slips
}

// isDecoration reports whether c is a character that people put around or between
// digits: brackets, quotes, hyphens and dashes, underscores, spaces.
func isDecoration(c rune) bool {
	return unicode.In(c, unicode.Pd, unicode.Ps, unicode.Pe, unicode.Pc, unicode.Pi, unicode.Pf, unicode.Cf) ||
		unicode.IsSpace(c) || c == '"' || c == '\''
}
