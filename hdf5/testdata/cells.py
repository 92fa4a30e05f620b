"""Writes every combination of version, layout, filter and type, one dataset each, and
describes them: cells.py DIRECTORY SHARE SHARES writes the share with that number."""
import os
import sys

import h5py
import numpy

import describe
import matrix


def padded(padding):
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(7)
    kind.set_strpad(padding)
    return h5py.Datatype(kind)


PAIR = numpy.dtype([("a", "<u2"), ("b", "<f4")])

TYPES = dict(matrix.TYPES)
TYPES.update({
    "u2be": ">u2", "i4": "<i4", "complex": "<c16", "f8be": ">f8",
    "enum1be": h5py.enum_dtype({"a": 0, "b": 200}, basetype=">u2"),
    "bits": h5py.Datatype(h5py.h5t.STD_B16LE),
    "bits1be": h5py.Datatype(h5py.h5t.STD_B32BE),
    "spaces": padded(h5py.h5t.STR_SPACEPAD),
    "nuls": padded(h5py.h5t.STR_NULLTERM),
    "sequences of pairs": h5py.vlen_dtype(PAIR),
    "sequences of sequences": h5py.vlen_dtype(h5py.vlen_dtype("<i2")),
    "reference": h5py.ref_dtype,
    "region": h5py.regionref_dtype,
    "nested": [("x", [("y", [("z", "<u4"), ("s", "S3")]), ("grid", PAIR, (2, 2))]), ("e", TYPES["enum"])],
})

# Shape, chunks, greatest shape. No chunks: the layout.
LAYOUTS = {
    "compact": ((13,), "compact", None),
    "contiguous": ((13,), None, None),
    "unwritten": ((13,), None, None),
    "scalar": ((), None, None),
    "single": ((13,), (13,), None),
    "implicit": ((7, 5), (3, 2), None),
    "fixed": ((7, 5), (3, 2), None),
    "fixed paged": ((1030,), (1,), None),
    "extensible": ((40,), (3,), (None,)),
    "extensible2": ((5, 6), (2, 5), (9, None)),
    "tree": ((7, 5), (3, 2), (None, None)),
    "holes": ((40,), (3,), (None,)),
    "holes2": ((9, 9), (2, 4), (None, None)),
}

ATTRIBUTES, LINKS = (0, 3, 20), (3, 20)


def is_variable(name, dtype):
    return name in ("variable", "sequence", "strings", "reference", "region") or name.startswith("sequences")


def written(rng, f, dtype, shape):
    """Values of a type that matrix.values does not know, or of one that it does."""
    if isinstance(dtype, h5py.Datatype):
        dtype = dtype.dtype
    dtype = numpy.dtype(dtype)
    if h5py.check_dtype(ref=dtype):
        out = numpy.empty(shape, dtype)
        for at in numpy.ndindex(*shape):
            out[at] = f["target"].ref if h5py.check_dtype(ref=dtype) is h5py.Reference else f["target"].regionref[1:3]
        return out
    inner = h5py.check_dtype(vlen=dtype)
    if inner not in (None, str, bytes) and h5py.check_dtype(vlen=numpy.dtype(inner)) is not None:
        out = numpy.empty(shape, dtype)
        for at in numpy.ndindex(*shape):
            out[at] = numpy.empty(int(rng.integers(1, 4)), inner)
            for i in range(len(out[at])):
                out[at][i] = numpy.arange(rng.integers(1, 5), dtype="<i2")
        return out
    if inner == PAIR:
        out = numpy.empty(shape, dtype)
        for at in numpy.ndindex(*shape):
            out[at] = matrix.values(rng, PAIR, (int(rng.integers(1, 5)),))
        return out
    if dtype.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return matrix.values(rng, dtype, shape)


def cell(rng, f, g, name, dtype, layout, options):
    shape, chunks, maxshape = LAYOUTS[layout]
    base = dtype.dtype if isinstance(dtype, h5py.Datatype) else numpy.dtype(dtype)
    if chunks == "compact" or layout == "implicit":
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        if layout == "implicit":
            plist.set_chunk(chunks)
            plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        else:
            plist.set_layout(h5py.h5d.COMPACT)
        kind = dtype.id if isinstance(dtype, h5py.Datatype) else h5py.h5t.py_create(base, logical=True)
        d = h5py.Dataset(h5py.h5d.create(g.id, name.encode(), kind, h5py.h5s.create_simple(shape), plist))
    else:
        if layout.startswith("holes") and base.kind in "iuf" and not isinstance(dtype, h5py.Datatype):
            options = dict(options, fillvalue=7)
        d = g.create_dataset(name, shape, dtype, chunks=chunks, maxshape=maxshape, **options)
    if layout.startswith("holes"):
        space = d.id.get_space()
        space.select_hyperslab((4, 3)[:len(shape)], (5, 2)[:len(shape)])
        v = written(rng, f, dtype, (5, 2)[:len(shape)])
        d.id.write(h5py.h5s.create_simple(v.shape), space, v, describe.memory(d.id))
    elif layout != "unwritten":
        v = numpy.asarray(written(rng, f, dtype, shape), base)
        d.id.write(h5py.h5s.ALL, h5py.h5s.ALL, v, describe.memory(d.id))
    return d


def cells():
    """The names of all combinations that HDF5 has."""
    for libver in matrix.LIBVERS:
        for layout, (_, chunks, _) in LAYOUTS.items():
            for filters in matrix.FILTERS:
                if filters != "none" and (not isinstance(chunks, tuple) or layout == "implicit"):
                    continue  # filters are of chunks
                for name, dtype in TYPES.items():
                    if "fletcher32" in matrix.FILTERS[filters] and is_variable(name, dtype):
                        continue  # the library refuses it
                    if layout in ("unwritten", "holes", "holes2") and (name == "spaces" or name.startswith("sequences")):
                        continue  # h5py does not read empty ones, and takes NULs for padding
                    yield libver, layout, filters, name


def main(directory, share, shares):
    chosen = [c for i, c in enumerate(cells()) if i % shares == share]
    rng = numpy.random.default_rng(20261130 + share)
    for libver in matrix.LIBVERS:
        path = os.path.join(directory, "cells-%s.h5" % libver)
        with h5py.File(path, "w", libver=libver) as f:
            f.create_dataset("target", data=numpy.arange(10))
            g = None
            mine = [c for c in chosen if c[0] == libver]
            for i, (_, layout, filters, name) in enumerate(mine):
                if i % LINKS[i // 40 % 2] == 0:
                    g = f.create_group("group %d" % i)
                d = cell(rng, f, g, "%s, %s, %s" % (layout, filters, name), TYPES[name], layout, matrix.FILTERS[filters])
                attributes = ATTRIBUTES[i % 3] if i else 2000
                for j in range(attributes):
                    d.attrs.create("attribute %d" % j, written(rng, f, TYPES[name], (2,)) if j % 7 == 0 else j,
                                   dtype=TYPES[name] if j % 7 == 0 else "<u4")
        describe.describe(path)
    for i, libver in enumerate(matrix.LIBVERS):
        if shares > 1 and share % len(matrix.LIBVERS) != i:
            continue
        path = os.path.join(directory, "links-%s.h5" % libver)
        with h5py.File(path, "w", libver=libver) as f:
            for order in (False, True)[:1 if shares > 1 else 2]:
                g = f.create_group("links %s" % order, track_order=order)
                g.create_dataset("d", data=7)
                for j in range(20000):
                    g["link %d" % (j * 7919 % 20000)] = g["d"] if j % 2 else h5py.SoftLink("d")
        describe.describe(path)
    print(len(chosen))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
