"""Selections for package hdf5: hyperslab.py DIRECTORY writes slabs.h5, in which each dataset
has another layout, index, filter, type or number of dimensions, and slabs.txt. In that a line
has a dataset, start, stride, count and block along each dimension, and the digest of
what h5py reads there."""
import hashlib
import os
import sys

import h5py
import numpy

SELECTIONS = 25  # of each dataset


def shapes():
    """Shape, chunks, and the options of each dataset."""
    yield "line", (1000,), {}
    yield "line-chunks", (1000,), {"chunks": (64,)}
    yield "line-gzip", (1000,), {"chunks": (64,), "compression": "gzip", "shuffle": True}
    for name, options in {
        "whole": {}, "tiles": {"chunks": (16, 7)}, "wide": {"chunks": (16, 90)}, "high": {"chunks": (70, 4)},
        "packed": {"chunks": (16, 7), "compression": "gzip", "shuffle": True, "fletcher32": True}, "lzf": {"chunks": (9, 31), "compression": "lzf"},
        "grows": {"chunks": (16, 7), "maxshape": (None, 90)}, "grows-both": {"chunks": (16, 7), "maxshape": (None, None), "compression": "gzip"},
    }.items():
        yield name, (70, 90), options
    yield "large-tiles", (300, 1100), {"chunks": (150, 512)}  # a tile is read in several bands
    yield "cube", (12, 20, 31), {"chunks": (5, 6, 7)}
    yield "cube-rows", (12, 20, 31), {"chunks": (4, 20, 31)}
    yield "four", (6, 7, 8, 9), {"chunks": (2, 7, 3, 9), "compression": "gzip"}
    yield "four-whole", (6, 7, 8, 9), {}


def along(rng, n):
    """Start, stride, count and block in a dimension of n."""
    kind = rng.integers(0, 6)
    if kind == 0:
        return 0, 1, 1, n
    if kind == 1:
        return int(rng.integers(0, n)), 1, 1, 1
    block = int(rng.integers(1, max(2, n // 4)))
    start = int(rng.integers(0, n - block + 1))
    if kind == 2:
        return start, 1, 1, int(rng.integers(1, n - start + 1))
    if kind == 3:
        return start, 1, int(rng.integers(1, n - start + 1)), 1
    stride = block + int(rng.integers(0, 4))
    return start, stride, int(rng.integers(1, (n - start - block) // stride + 2)), block


def select(rng, d):
    parts = list(zip(*(along(rng, n) for n in d.shape)))
    start, stride, count, block = parts
    space = d.id.get_space()
    space.select_hyperslab(start, count, stride, block)
    wanted = tuple(c * b for c, b in zip(count, block))
    out = numpy.empty(wanted, d.dtype)
    d.id.read(h5py.h5s.create_simple(wanted), space, out)
    text = " ".join(",".join(map(str, p)) for p in parts)
    return "%s %s %s\n" % (d.name, text, hashlib.sha256(out.tobytes()).hexdigest())


def main(directory):
    rng = numpy.random.default_rng(8)
    kinds = ["<i4", ">u2", "S5", numpy.dtype([("a", "<u8"), ("b", "<f4"), ("c", "u1", (3,))]), "u1"]
    with h5py.File(os.path.join(directory, "slabs.h5"), "w", libver="latest") as f, open(os.path.join(directory, "slabs.txt"), "w") as out:
        for i, (name, shape, options) in enumerate(shapes()):
            dtype = numpy.dtype(kinds[i % len(kinds)])
            size = int(numpy.prod(shape))
            data = numpy.frombuffer(rng.integers(1, 255, size * dtype.itemsize, dtype="u1").tobytes(), dtype).reshape(shape)
            f.create_dataset(name, data=data, **options)
        # Most chunks were never written.
        holes = f.create_dataset("holes", (90, 90), "<i8", chunks=(8, 8), fillvalue=-7, compression="gzip")
        for i in range(0, 90, 11):
            holes[i, (i * 7) % 90] = i
        plain = f.create_dataset("plain-holes", (90, 90), "<i8", chunks=(8, 8), maxshape=(None, 90), fillvalue=-7)
        for i in range(0, 90, 5):
            plain[i, (i * 7) % 90:] = i
        f.create_dataset("nothing", (9, 9), "<i2", fillvalue=3)
        small = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        small.set_layout(h5py.h5d.COMPACT)
        compact = h5py.h5d.create(f.id, b"compact", h5py.h5t.STD_I32LE, h5py.h5s.create_simple((9, 11)), small)
        compact.write(h5py.h5s.ALL, h5py.h5s.ALL, numpy.arange(99, dtype="<i4").reshape(9, 11))
        f.flush()
        for name in f:
            out.writelines(select(rng, f[name]) for _ in range(SELECTIONS))


if __name__ == "__main__":
    main(sys.argv[1])
