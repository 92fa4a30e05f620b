package cidstore

// SetSmallGeometry makes blocks of the log, steps of growth and slices of
// checkpoints as small as they can be, so that much happens in few operations.
func SetSmallGeometry(o *Options) {
	o.blockBytes, o.growBytes, o.sliceBytes = 512, 32<<10, 6<<10
}

// Reserve makes the file long enough for so many bytes of free space.
func Reserve(s *Store, n int64) error { return s.file.Reserve(n) }

// Must and WantErr are for the tests of the API too.
var Must, WantErr = mustDo, wantErr
