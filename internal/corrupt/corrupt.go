// Package corrupt makes the one error for bytes in a file that are not as they must
// be. It names the structure, its place, what was found and what was wanted.
package corrupt

import (
	"errors"
	"fmt"
)

// Err is matched, with errors.Is, by every error that Errorf makes.
var Err = errors.New("corrupt")

// Error says which structure is damaged and where.
type Error struct {
	Structure string // "bucket row 12"
	Offset    int64  // first byte in the file; negative: the place is not one offset
	Cause     error
}

// Errorf returns an *Error. format says what was found and what was wanted, and may
// have %w.
func Errorf(structure string, offset int64, format string, args ...any) error {
	return &Error{structure, offset, fmt.Errorf(format, args...)}
}

func (e *Error) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("corrupt: %s: %v", e.Structure, e.Cause)
	}
	return fmt.Sprintf("corrupt: %s at %#x: %v", e.Structure, e.Offset, e.Cause)
}

func (e *Error) Unwrap() []error { return []error{Err, e.Cause} }
