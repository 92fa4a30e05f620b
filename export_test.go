package cidstore

// SetSmallGeometry makes blocks of the log, steps of growth and slices of
// checkpoints as small as they can be, so that much happens in few operations.
func SetSmallGeometry(o *Options) {
	o.blockBytes, o.growBytes, o.sliceBytes = 512, 32<<10, 6<<10
}
