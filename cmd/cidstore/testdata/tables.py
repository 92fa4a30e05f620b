"""Writes tables.h5, what the scripts import from and inspect: python3 tables.py tables.h5"""

import sys

import h5py
import numpy

names = [b"dog", b"cat", b"cow"]

with h5py.File(sys.argv[1], "w") as f:
    f.attrs["title"] = "tables for tests"
    f.attrs["long"] = numpy.arange(1000, dtype="i4")
    f.attrs["nan"] = numpy.float64("nan")
    f.attrs["none"] = h5py.Empty("i4")
    kind = [("id", "<u4"), ("boss", ">i8"), ("weight", "f4"), ("name", "S8"), ("note", h5py.string_dtype()), ("pair", "<u2", 2)]
    rows = [(i + 1, -2 if i == 1 else i, i / 2, names[i], ["", "höher", "0x7"][i], (i, i)) for i in range(3)]
    f["people"] = numpy.array(rows, kind)
    f["edges"] = numpy.array([[1, 2, 30], [4, 5, 60], [7, -8, 90], [10, 11, 120]], ">i4")
    f["floats"] = numpy.ones((2, 2))
    f["numbers"] = numpy.arange(5)
    f["empty"] = numpy.array([], [("a", "u8"), ("b", "u8")])
    many = numpy.zeros(40000, [("key", "u4"), ("value", "i4")])
    many["key"], many["value"] = numpy.arange(40000) // 3, numpy.arange(40000)
    f.create_dataset("group/many", data=many, chunks=(1000,), maxshape=(None,), compression="gzip", fletcher32=True)
    f["group/many"].attrs["units"] = numpy.array([b"pieces", b"pieces"])
    f.create_dataset("group/kept", data=many[:4000], chunks=(500,), fletcher32=True)
    f["group/up"] = f["/"]
    f["group/again"] = f["people"]
    f["soft"] = h5py.SoftLink("/no\nwhere")
    f["external"] = h5py.ExternalLink("other.h5", "/there")
    f["type"] = numpy.dtype("<u2")
    wide = h5py.h5t.NATIVE_UINT64.copy()
    wide.set_size(16)
    wide.set_precision(128)
    record = h5py.h5t.create(h5py.h5t.COMPOUND, 24)
    record.insert(b"wide", 0, wide)
    record.insert(b"small", 16, h5py.h5t.NATIVE_UINT64)
    h5py.h5d.create(f.id, b"wide", record, h5py.h5s.create_simple((2,)))
