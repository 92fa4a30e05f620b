"""Made the small files of this folder, with h5py 3.7, PyTables 3.7 and netCDF4
1.6 on HDF5 1.10.8: samples.py DIRECTORY. The files layout-* and upstream-* are
not its work: older programs wrote them."""
import bz2
import os
import sys

import h5py
import netCDF4
import numpy
import tables

import describe
import matrix


def direct(g, name, number, values, raw, stored, mask=0):
    """A dataset of one chunk that a filter, which h5py need not have, has packed."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((len(raw),))
    plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, values)
    space = h5py.h5s.create_simple((len(raw),))
    d = h5py.h5d.create(g.id, name.encode(), h5py.h5t.STD_U8LE, space, plist)
    d.write_direct_chunk((0,), stored, mask)


def kinds(f, rng):
    """A little of everything."""
    for n in (2, 12):
        g = f.create_group("group%d" % n)
        for i in range(n):
            g.attrs["attribute%d" % i] = numpy.arange(i, dtype="<u2")
            g["link%d" % i] = h5py.SoftLink("/nowhere/%d" % i) if i else f
    matrix.linked(f.create_group("linked"))
    for name in ("enum", "variable", "sequence", "opaque", "compound", "arrays", "strings", "f2"):
        dtype = matrix.TYPES[name]
        f.create_dataset("types/" + name, data=matrix.values(rng, dtype, (3,)), dtype=dtype)
    chunks = f.create_group("chunks")
    shapes = {"single": ((5,), (5,), None), "fixed": ((9,), (2,), None), "extensible": ((90,), (2,), (None,)),
              "tree": ((40, 3), (1, 2), (None, None)), "paged": ((1100,), (1,), None)}
    for name, (shape, size, maxshape) in shapes.items():
        for filtered in (False, True):
            options = matrix.FILTERS["all"] if filtered else {}
            if name == "paged" and filtered:
                continue
            d = chunks.create_dataset("%s%s" % (name, filtered), shape, "<u2", chunks=size, maxshape=maxshape, fillvalue=9, **options)
            if name == "paged":
                d[1050:1060] = 1
            else:
                d[1:] = matrix.values(rng, "<u2", d[1:].shape) % 7
    f.create_dataset("lzf", data=numpy.arange(300) // 7, chunks=(100,), **matrix.FILTERS["lzfall"])
    f["committed"] = numpy.dtype("<i4")
    f.create_dataset("of committed", (2,), dtype=f["committed"])
    f.create_dataset("large attribute", (2,), "u1").attrs["a"] = numpy.arange(700)


def odd_filters(path):
    text = numpy.frombuffer(bytes(range(64)) * 4, "u1")
    with h5py.File(path, "w") as f:
        direct(f, "bzip2", 307, (9,), text, bz2.compress(text.tobytes()))
        direct(f, "zstd", 32015, (3,), text, bytes.fromhex(ZSTD))
        direct(f, "skipped", 32015, (3,), text, text.tobytes(), mask=1)
        direct(f, "blosc", 32001, (2, 2, 1, 256), text, b"0123")
        direct(f, "szip", 4, (141, 8), text, b"0123")
        direct(f, "nbit", 5, (8, 1, 256), text, b"0123")
        direct(f, "unknown", 31234, (), text, b"0123")
        f.create_dataset("scaleoffset", data=numpy.arange(50), scaleoffset=0, chunks=(50,))


ZSTD = "28b52ffd440000005502000404000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
ZSTD += "2425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f015419062b406f0876a976fa"


def pytables(path):
    class Row(tables.IsDescription):
        name = tables.StringCol(8)
        count = tables.Int32Col(dflt=7)
        grid = tables.Float32Col(shape=(2, 2))

        class inner(tables.IsDescription):
            x = tables.UInt8Col()
            flag = tables.BoolCol()

    with tables.open_file(path, "w", title="a title") as f:
        for name, complib in (("plain", None), ("zlib", "zlib"), ("bzip2", "bzip2")):
            options = tables.Filters(complevel=5, complib=complib, shuffle=True, fletcher32=True) if complib else None
            t = f.create_table("/", name, Row, filters=options, chunkshape=(8,))
            for i in range(20):
                t.row["name"], t.row["count"], t.row["inner/x"] = "row%d" % i, i, i
                t.row.append()
        f.create_carray("/", "carray", obj=numpy.arange(12.0).reshape(3, 4), filters=tables.Filters(1))
        e = f.create_earray("/", "earray", tables.Int64Atom(), (0, 2), chunkshape=(2, 2))
        e.append([[1, 2], [3, 4]])
        v = f.create_vlarray("/", "vlarray", tables.Int32Atom(), chunkshape=(4,))
        v.append([1, 2, 3])
        v.append([])
        f.create_array("/group/sub", "array", [1, 2, 3], createparents=True)
        f.create_soft_link("/", "soft", "/group/sub/array")


def netcdf(path):
    with netCDF4.Dataset(path, "w", format="NETCDF4") as f:
        f.title = "a title"
        f.createDimension("time", None)
        f.createDimension("x", 5)
        v = f.createVariable("temperature", "f4", ("time", "x"), zlib=True, fill_value=-1)
        v.units = "K"
        v[:3] = numpy.arange(15).reshape(3, 5)
        f.createVariable("x", "i2", ("x",), endian="big")[:] = numpy.arange(5)
        s = f.createVariable("names", str, ("x",))
        s[0], s[2] = "zero", "zwei"
        g = f.createGroup("group")
        g.createVariable("y", "u8", ("x",))[:] = 2**63
        kind = g.createEnumType("u1", "kind", {"a": 1, "b": 2})
        g.createVariable("k", kind, ("x",), fill_value=1)[:] = 2


def dense(f):
    for i in range(9):
        f.attrs["a%d" % i] = numpy.uint8(i)
        f["l%d" % i] = h5py.SoftLink("l%d" % (i + 1))
    f.attrs["large"] = numpy.arange(700)


def index(shape, chunks, maxshape, **options):
    def make(f):
        d = f.create_dataset("d", shape, "u1", chunks=chunks, maxshape=maxshape, fillvalue=5, **options)
        d[...] = numpy.arange(d.size).reshape(shape) % 7
    return make


def heap(f):
    f["strings"] = ["one", "zwei", ""]
    f.create_dataset("sequences", (2,), dtype=h5py.vlen_dtype("<u2"))[0] = numpy.array([1, 2], "<u2")
    f.attrs["compound"] = numpy.array([(1, b"ab", 2.5)], dtype=[("n", "<u4"), ("s", "S2"), ("f", ">f8")])


def sealed(f):
    """Every byte has a checksum."""
    for i, maxshape in enumerate((None, (None,))):
        index((24,), (2,), maxshape, fletcher32=True)(f.create_group("index%d" % i))
    index((3, 3), (1, 2), (None, None), fletcher32=True, compression="gzip")(f.create_group("tree"))
    g = f.create_group("dense")
    for i in range(9):
        g.attrs["a%d" % i] = numpy.uint8(i)
        g["l%d" % i] = h5py.SoftLink("l%d" % (i + 1))


TINY = {
    "sealed": ("latest", sealed),
    "dense": ("latest", dense),
    "fixed": ("latest", index((20,), (2,), None)),
    "fixedfilter": ("latest", index((20,), (2,), None, compression="gzip", fletcher32=True)),
    "extensible": ("latest", index((90,), (2,), (None,))),
    "extensiblefilter": ("latest", index((30,), (2,), (None,), compression="lzf")),
    "secondary": ("latest", index((250,), (1,), (None,))),
    "tree": ("latest", index((3, 3), (1, 2), (None, None))),
    "treefilter": ("latest", index((3, 3), (1, 2), (None, None), shuffle=True, compression="gzip")),
    "oldtree": ("earliest", index((20,), (7,), (None,), compression="gzip")),
    "heap": ("earliest", heap),
    "oldlinks": ("earliest", matrix.linked),
}


def main(directory):
    matrix.shared(4, os.path.join(directory, "shared.h5"))
    describe.describe(os.path.join(directory, "shared.h5"))
    for name, (libver, make) in TINY.items():
        path = os.path.join(directory, "tiny-%s.h5" % name)
        with h5py.File(path, "w", libver=libver) as f:
            make(f)
        describe.describe(path)
    for libver in ("earliest", "latest"):
        path = os.path.join(directory, "kinds-%s.h5" % libver)
        with h5py.File(path, "w", libver=libver) as f:
            kinds(f, numpy.random.default_rng(1))
        describe.describe(path)
    with h5py.File(os.path.join(directory, "tiles.h5"), "w", libver="latest") as f:
        f.create_dataset("d", data=numpy.arange(3000, dtype="<u2").reshape(100, 30), chunks=(64, 16))
    describe.describe(os.path.join(directory, "tiles.h5"))
    odd_filters(os.path.join(directory, "filters.h5"))
    for name, make in (("pytables.h5", pytables), ("netcdf4.h5", netcdf)):
        path = os.path.join(directory, name)
        make(path)
        describe.describe(path)
    path = os.path.join(directory, "userblock.h5")
    with h5py.File(path, "w", userblock_size=1024) as f:
        matrix.linked(f)
    describe.describe(path)
    path = os.path.join(directory, "sizes-4-4.h5")
    plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    plist.set_sizes(4, 4)
    f = h5py.File(h5py.h5f.create(path.encode(), h5py.h5f.ACC_TRUNC, fcpl=plist))
    matrix.linked(f)
    f.create_dataset("chunks", data=numpy.arange(30), chunks=(7,), compression="gzip")
    f["strings"] = ["one", "two", "three"]
    f.close()
    describe.describe(path)
    path = os.path.join(directory, "superblock1.h5")
    plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    matrix.library("H5Pset_istore_k", plist, 2)
    f = h5py.File(h5py.h5f.create(path.encode(), h5py.h5f.ACC_TRUNC, fcpl=plist))
    f.create_dataset("chunks", data=numpy.arange(30, dtype="u1"), chunks=(3,))
    f.close()
    describe.describe(path)


if __name__ == "__main__":
    main(sys.argv[1])
