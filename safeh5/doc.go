// Package safeh5 writes plain HDF5 files that a crash cannot harm: a file is at
// every moment one that h5py, h5dump and every other HDF5 program opens, with all of
// the last Update that returned, whatever killed the writer.
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
// An Update is atomic and durable: after it the disk has all of its changes, and
// before that none of them. Nothing that an HDF5 program can reach is ever written in
// place; what an Update replaces or deletes is used again by later ones.
// docs/HDF5.md says what the package is for, what it costs, and what it does not do.
//
// # Reading
//
// View hands the last committed state to package hdf5, which reads it, in the
// process that writes, or in another that has the file open with Options.ReadOnly;
// it keeps that state as long as it is read. HDF5 programs read the file by its
// path; for them space that an Update frees is left alone for Options.KeepUpdates more.
//
// # Go types and HDF5 types
//
//	bool                          an enum of FALSE and TRUE, as h5py has it
//	int8 … int64, uint8 … uint64  integers, little-endian
//	such an integer type with the
//	method of Enum                an enum, as h5py's enum_dtype
//	float32, float64              IEEE 754, little-endian
//	complex64, complex128         a compound of r and i, as h5py has it
//	[n]T                          an array; of a plain dataset's rows, use dimensions
//	struct                        a compound of its fields, in order, packed
//	string, [n]byte with a tag    a string of fixed size, UTF-8, padded with NUL
//
// The tag h5:"name" gives a field of a struct another name, h5:"-" leaves it out,
// h5:"name,16" says that a string field has 16 bytes, and h5:"name,string" that one of
// type [n]byte is a text. Elements that are strings by themselves are of a type that
// hdf5io.String makes. Elements of a type that hdf5io.Enum makes take plain integers too.
package safeh5
