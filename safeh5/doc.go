// Package safeh5 writes plain HDF5 files that a crash cannot harm. At every moment h5py,
// h5dump and every other HDF5 program can open the file, and find everything of the last
// Update that returned, whatever killed the writer.
//
//	f, err := safeh5.Open("log.h5", nil) // makes the file if it is not there
//	err = f.Update(func(tx *safeh5.Tx) error {
//		log, err := tx.CreateDataset("/sensors/log", safeh5.Spec{Type: Reading{}, Dims: []uint64{0}, MaxDims: []uint64{safeh5.Unlimited}})
//		if err != nil {
//			return err
//		}
//		return safeh5.Append(log, readings)
//	})
//
// An Update is atomic and durable: when it returns the disk has all of its changes, and
// before that none of them. Nothing that an HDF5 program can reach is ever overwritten.
// Later Updates use the space again that an Update has freed. docs/HDF5.md says what the
// package is for, what it costs, and what it does not do.
//
// # Reading
//
// View gives its callback the last committed state as a file of package hdf5, and keeps
// that state until the callback returns. It works in the process that writes, and in
// others that have the file open with Options.ReadOnly. HDF5 programs read the file by
// its path. For them, the space that an Update frees is left alone during
// Options.KeepUpdates more Updates.
//
// # Go types and HDF5 types
//
//	bool                          an enum of FALSE and TRUE, as in h5py
//	int8 … int64, uint8 … uint64  integers, little-endian
//	such an integer type with the
//	method of Enum                an enum, as h5py's enum_dtype
//	float32, float64              IEEE 754, little-endian
//	complex64, complex128         a compound of r and i, as in h5py
//	[n]T                          an array; for rows of a plain dataset use dimensions
//	struct                        a compound of its fields, in order, packed
//	string, [n]byte with a tag    a string of fixed size, UTF-8, padded with NUL
//
// The tag h5:"name" gives a field of a struct another name, h5:"-" leaves it out,
// h5:"name,16" says that a string field has 16 bytes, and h5:"name,string" that one of
// type [n]byte is a text. If the elements themselves are strings, hdf5io.String makes their
// type. Elements of a type that hdf5io.Enum makes also accept plain integers.
package safeh5
