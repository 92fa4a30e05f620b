package cidstore

import "testing"

// SetSmallGeometry makes blocks of the log, steps of growth and slices of
// checkpoints as small as they can be, so that much happens in few operations.
func SetSmallGeometry(o *Options) {
	o.blockBytes, o.growBytes, o.sliceBytes = 512, 32<<10, 6<<10
}

// SetSmallGrowth makes a file grow often.
func SetSmallGrowth(o *Options) { o.growBytes = 32 << 10 }

// Reserve makes the file long enough for so many bytes of free space.
func Reserve(s *Store, n int64) error { return s.file.Reserve(n) }

// These are for the tests of the API too.
var Must, MustAt, WantErr, WantSays, MustCheck, InsertsOf = mustDo, mustAt, wantErr, wantSays, mustCheck, insertsOf

func MustGet[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T { t.Helper(); return mustGet(v, err)(t) }
}

func WantIs[T comparable](t testing.TB, want T, when ...any) func(T, error) {
	return wantIs(t, want, when...)
}
