"""Writes HDF5 files with every combination of what h5py can vary, and describes
them: matrix.py DIRECTORY."""
import ctypes
import os
import sys

import h5py
import numpy

import describe

LIBVERS = ["earliest", "v108", "v110", "latest"]

INNER = numpy.dtype([("high", "<u8"), ("low", "<u8")])

TYPES = {
    "u8": "<u8", "u1": "u1", "i2be": ">i2", "i8": "<i8", "f2": "<f2", "f4be": ">f4", "f8": "<f8",
    "bool": "?",
    "enum": h5py.enum_dtype({"red": 1, "green": 7, "blue": -3}, basetype="i2"),
    "fixed": "S5",
    "utf8": h5py.string_dtype("utf-8", 9),
    "variable": h5py.string_dtype(),
    "sequence": h5py.vlen_dtype("<i4"),
    "opaque": h5py.opaque_dtype("V6"),
    "compound": [("a", "<u4"), ("b", ">f8"), ("c", "S3"), ("in", INNER), ("e", "?")],
    "arrays": [("key", "<u8"), ("slots", INNER, (4,)), ("grid", "<i2", (2, 3)), ("mask", "u1")],
    "padded": numpy.dtype({"names": ["x", "y"], "formats": ["u1", "<f8"], "offsets": [3, 16], "itemsize": 300}),
    "strings": [("n", "<i4"), ("s", h5py.string_dtype())],
}

FILTERS = {
    "none": {},
    "gzip": {"compression": "gzip"},
    "shuffle": {"shuffle": True},
    "fletcher": {"fletcher32": True},
    "lzf": {"compression": "lzf"},
    "all": {"compression": "gzip", "compression_opts": 9, "shuffle": True, "fletcher32": True},
    "lzfall": {"compression": "lzf", "shuffle": True, "fletcher32": True},
}


def values(rng, dtype, shape):
    """Random values of a type."""
    dtype = numpy.dtype(dtype)
    vlen = h5py.check_dtype(vlen=dtype)
    out = numpy.zeros(shape, dtype=dtype)
    if vlen in (str, bytes):
        flat = out.reshape(-1)
        for i in range(flat.size):
            flat[i] = "".join(rng.choice(list("abcäß€"), rng.integers(0, 40)))
    elif vlen is not None:
        flat = out.reshape(-1)
        for i in range(flat.size):
            flat[i] = values(rng, vlen, int(rng.integers(0, 6)))
    elif dtype.fields:
        for name in dtype.names:
            base, inner = dtype[name].subdtype or (dtype[name], ())
            out[name] = values(rng, base, tuple(shape if isinstance(shape, tuple) else (shape,)) + inner)
    elif h5py.check_dtype(enum=dtype) and dtype.kind != "b":
        out[...] = rng.choice(list(h5py.check_dtype(enum=dtype).values()), shape)
    elif dtype.kind == "b":
        out[...] = rng.integers(0, 2, shape)
    elif dtype.kind == "f":
        out[...] = rng.standard_normal(shape)
        if out.size > 2:
            out.reshape(-1)[:3] = [numpy.inf, -0.0, 6e-8]
    elif dtype.kind in "iu":
        info = numpy.iinfo(dtype)
        out[...] = rng.integers(info.min, info.max, shape, dtype=dtype.newbyteorder("="), endpoint=True)
    else:
        raw = rng.integers(0, 256, int(numpy.prod(shape)) * dtype.itemsize, dtype="u1") % 90 + 33
        out = numpy.frombuffer(raw.tobytes(), dtype=dtype).reshape(shape)
    return out


def chunked(rng, g):
    """Every chunk index, with every filter, whole and with holes."""
    shapes = {
        "single": ((30,), (30,), None),
        "fixed": ((100,), (7,), None),
        "fixed2": ((20, 13), (7, 4), None),
        "fixed2max": ((10, 13), (4, 4), (40, 21)),
        "paged": ((2600,), (1,), None),
        "extensible": ((300,), (7,), (None,)),
        "extensible2": ((20, 13), (3, 4), (20, None)),
        "extensible3": ((6, 5, 7), (2, 2, 3), (None, 5, 9)),
        "many": ((3000,), (2,), (None,)),
        "tree": ((20, 13), (3, 4), (None, None)),
        "trees": ((60, 60), (2, 1), (None, None)),
        "wide": ((3, 1000), (1, 100), None),
        "large": ((2, 2), (50, 40), (None, None)),
        "empty": ((0, 3), (4, 2), (None, 3)),
    }
    for name, (shape, chunks, maxshape) in shapes.items():
        for fname, options in FILTERS.items():
            if name in ("paged", "many", "trees") and fname not in ("none", "all"):
                continue
            data = values(rng, "<u4", shape) % 1000
            g.create_dataset("%s-%s" % (name, fname), data=data, chunks=chunks, maxshape=maxshape, **options)
            holes = g.create_dataset("%s-%s-holes" % (name, fname), shape, "<u4", chunks=chunks, maxshape=maxshape, fillvalue=77, **options)
            if len(shape) == 1:
                holes[shape[0] // 2:shape[0] // 2 + 5] = 5
                holes[shape[0] - 1] = 6
            elif shape[0] > 1:
                holes[1, ..., 1] = 9
    resized = g.create_dataset("resized", (50, 20), "<i2", chunks=(8, 6), maxshape=(None, None), data=values(rng, "<i2", (50, 20)))
    resized.resize((9, 7))
    resized.resize((30, 40))
    line = g.create_dataset("line", (50,), "<i2", chunks=(8,), maxshape=(None,), data=values(rng, "<i2", (50,)))
    line.resize((9,))
    line.resize((300,))
    for name, maxshape in (("implicit", None), ("implicitmax", (60, 12))):
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4, 5))
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        space = h5py.h5s.create_simple((13, 11), maxshape or (13, 11))
        d = h5py.Dataset(h5py.h5d.create(g.id, name.encode(), h5py.h5t.STD_I32LE, space, plist))
        d[:, :] = values(rng, "<i4", (13, 11))


def typed(rng, g):
    """Every type in every layout, and filtered where the values may be."""
    for name, dtype in TYPES.items():
        g.create_dataset(name + "-contiguous", data=values(rng, dtype, (23,)), dtype=dtype)
        g.create_dataset(name + "-unwritten", (5, 2), dtype=dtype)
        g.create_dataset(name + "-scalar", data=values(rng, dtype, ()), dtype=dtype)
        g.create_dataset(name + "-2", data=values(rng, dtype, (4, 3)), dtype=dtype, chunks=(3, 2))
        for fname, options in FILTERS.items():
            if "fletcher32" in options and ("variable" in name or name in ("sequence", "strings")):
                continue  # the library refuses it
            g.create_dataset("%s-%s" % (name, fname), data=values(rng, dtype, (50,)), dtype=dtype, chunks=(9,), maxshape=(None,), **options)
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((11,))
        d = h5py.Dataset(h5py.h5d.create(g.id, (name + "-compact").encode(), h5py.h5t.py_create(numpy.dtype(dtype), logical=True), space, plist))
        d[:] = values(rng, dtype, (11,))
        g.attrs.create(name, values(rng, dtype, (3,)), dtype=dtype)
        g.attrs.create(name + "-scalar", values(rng, dtype, ()), dtype=dtype)
    g["nothing"] = h5py.Empty("f4")
    g.attrs["nothing"] = h5py.Empty("f4")
    g["committed"] = numpy.dtype(TYPES["arrays"])
    d = g.create_dataset("of committed", data=values(rng, TYPES["arrays"], (6,)), dtype=g["committed"])
    d.attrs.create("shared", values(rng, TYPES["arrays"], (2,)), dtype=g["committed"])
    g["filled"] = 0.5
    g.create_dataset("fill", (7,), TYPES["compound"], fillvalue=values(rng, TYPES["compound"], (1,))[0])
    g.create_dataset("fill string", (3,), h5py.string_dtype(), fillvalue="abc")
    g.create_dataset("references", data=numpy.array([g.ref, d.ref], dtype=h5py.ref_dtype))
    g.create_dataset("regions", data=numpy.array([d.regionref[1:3]], dtype=h5py.regionref_dtype))


def counted(g):
    """Groups and attributes in every number."""
    for n in (0, 3, 20, 2000):
        a = g.create_group("attributes%d" % n)
        for i in range(n):
            a.attrs["attribute %d" % (i * 7919 % (n + 1))] = numpy.uint32(i)
        b = g.create_dataset("on dataset %d" % n, data=n)
        for i in range(min(n, 20)):
            b.attrs["ä%d" % i] = "value %d" % i
    for n in (3, 20, 2000):
        for order in (False, True):
            links = g.create_group("links%d%s" % (n, order), track_order=order)
            for i in range(n):
                links["link %d" % (i * 7919 % (n + 1))] = g["on dataset 3"]
    try:
        g.attrs["large"] = numpy.arange(20000)
        g.attrs["huge"] = numpy.arange(100000)
    except (OSError, RuntimeError):
        pass  # the old format has no room for it


def linked(g):
    """Links of every kind."""
    sub = g.create_group("a/b/c")
    sub["x"] = 1
    g["hard"] = sub
    sub["up"] = g
    g["soft"] = h5py.SoftLink("a/b/c/x")
    g["absolute"] = h5py.SoftLink("/somewhere/else")
    g["external"] = h5py.ExternalLink("other.h5", "/there")
    g["ünicode ☃"] = 2
    g["long " + 300 * "n"] = 3


def library(call, plist, *numbers):
    """Calls the HDF5 library itself, for what h5py does not offer."""
    with open("/proc/self/maps") as maps:
        path = next(line.split()[-1] for line in maps if "libhdf5" in line and "_hl" not in line)
    function = getattr(ctypes.CDLL(path), call)
    function.argtypes = [ctypes.c_int64] + len(numbers) * [ctypes.c_uint]
    if function(plist.id, *numbers) < 0:
        raise OSError(call)


def shared(step, path):
    """A file with a table of shared messages, which h5py cannot ask for."""
    plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    library("H5Pset_shared_mesg_nindexes", plist, 2)
    library("H5Pset_shared_mesg_index", plist, 0, 1 << 12, 20)  # attributes
    library("H5Pset_shared_mesg_index", plist, 1, 1 << 1 | 1 << 3 | 1 << 5 | 1 << 11, 10)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_LATEST, h5py.h5f.LIBVER_LATEST)
    f = h5py.File(h5py.h5f.create(path.encode(), h5py.h5f.ACC_TRUNC, fcpl=plist, fapl=access))
    for i in range(4):
        d = f.create_dataset("d%d" % i, data=numpy.zeros(5, TYPES["compound"]), chunks=(2,), compression="gzip",
                             fillvalue=numpy.ones((), TYPES["compound"]))
        for j in range(step * i):
            d.attrs["attribute %d" % j] = numpy.arange(20 + j % 3)
    f.close()


def plain_edges(f):
    """Chunks that stick out of the dataset are not filtered."""
    for name, shape, maxshape in (("fixed", (13, 11), (13, 11)), ("tree", (13, 11), (h5py.h5s.UNLIMITED, h5py.h5s.UNLIMITED))):
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4, 5))
        plist.set_deflate(4)
        library("H5Pset_chunk_opts", plist, 2)
        d = h5py.Dataset(h5py.h5d.create(f.id, name.encode(), h5py.h5t.STD_I32LE, h5py.h5s.create_simple(shape, maxshape), plist))
        d[:, :] = numpy.arange(143).reshape(13, 11)


def odd(directory):
    """Files that say more of themselves, and those that are not read: the name
    begins with the error."""
    def path(name):
        return os.path.join(directory, name)

    with h5py.File(path("edges.h5"), "w", libver="latest") as f:
        plain_edges(f)
    shared(300, path("shared.h5"))
    with h5py.File(path("committed.h5"), "w", libver="latest") as f:
        f["type"] = h5py.enum_dtype({"name %d" % i: i for i in range(1000)}, basetype="u2")
        for i in range(300):
            f.attrs.create("attribute %d" % i, i, dtype=f["type"])
            f.create_dataset("dataset %d" % i, (), dtype=f["type"])
    for strategy in ("page", "fsm", "aggregate", "none"):
        for libver in ("earliest", "latest"):
            name = path("strategy-%s-%s.h5" % (strategy, libver))
            with h5py.File(name, "w", libver=libver, fs_strategy=strategy, fs_persist=strategy in ("page", "fsm")) as f:
                linked(f)
                del f["soft"]
    plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    library("H5Pset_sym_k", plist, 3, 2)
    library("H5Pset_istore_k", plist, 2)
    f = h5py.File(h5py.h5f.create(path("superblock1.h5").encode(), h5py.h5f.ACC_TRUNC, fcpl=plist))
    linked(f)
    for i in range(100):
        f["link %d" % i] = i
    f.create_dataset("chunks", data=numpy.arange(1000), chunks=(3,))
    f.close()
    for name in os.listdir(directory):
        if not name.endswith(".txt") and not os.path.exists(path(name + ".txt")):
            describe.describe(path(name))
    with h5py.File(path("unsupported-virtual.h5"), "w", libver="latest") as f:
        layout = h5py.VirtualLayout((4,), "i4")
        layout[:2] = h5py.VirtualSource("other.h5", "d", (2,))
        f.create_virtual_dataset("d", layout)
    with h5py.File(path("unsupported-external.h5"), "w") as f:
        f.create_dataset("d", (4,), "u1", external=[("other.raw", 0, 4)])
    for driver in ("split", "family"):
        options = {"memb_size": 1024} if driver == "family" else {}
        with h5py.File(path("unsupported-" + driver + ("%d.h5" if driver == "family" else "")), "w", driver=driver, **options) as f:
            linked(f)


def main(directory):
    odd(directory)
    for libver in LIBVERS:
        for part, make in (("chunked", chunked), ("typed", typed)):
            rng = numpy.random.default_rng(20261129)
            path = os.path.join(directory, "%s-%s.h5" % (part, libver))
            with h5py.File(path, "w", libver=libver) as f:
                make(rng, f.create_group("data"))
            describe.describe(path)
        path = os.path.join(directory, "groups-%s.h5" % libver)
        with h5py.File(path, "w", libver=libver, track_order=libver == "v110") as f:
            counted(f.create_group("counted"))
            linked(f.create_group("linked"))
        describe.describe(path)
    path = os.path.join(directory, "paged-array.h5")
    with h5py.File(path, "w", libver="latest") as f:
        d = f.create_dataset("pages", (200000,), "u1", chunks=(1,), maxshape=(None,), fillvalue=3)
        d[:1000] = 1
        d[133000:133100] = 2
        d[199000:] = 4
    describe.describe(path)
    path = os.path.join(directory, "userblock.h5")
    with h5py.File(path, "w", libver="latest", userblock_size=2048) as f:
        linked(f)
    describe.describe(path)
    for sizes in ((4, 4), (8, 4), (4, 8)):
        plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
        plist.set_sizes(*sizes)
        path = os.path.join(directory, "sizes-%d-%d.h5" % sizes)
        f = h5py.File(h5py.h5f.create(path.encode(), h5py.h5f.ACC_TRUNC, fcpl=plist))
        linked(f)
        f["strings"] = values(numpy.random.default_rng(1), h5py.string_dtype(), (20,))
        f.create_dataset("chunks", data=numpy.arange(100), chunks=(7,), compression="gzip")
        f.close()
        describe.describe(path)


if __name__ == "__main__":
    main(sys.argv[1])
