"""Describes all that h5py reads in an HDF5 file, in lines that the tests of
package hdf5 make too: describe.py FILE…, each into FILE.txt."""
import hashlib
import struct
import sys

import h5py
import numpy


def value(v, dtype):
    """The text of all values in an array."""
    kind = h5py.check_dtype(vlen=dtype)
    if dtype.subdtype is not None:
        return value(v, dtype.subdtype[0])
    if dtype.fields:
        return "{" + ";".join(n + ":" + value(v[n], dtype[n]) for n in dtype.names) + "}"
    flat = numpy.asarray(v).reshape(-1)
    if h5py.check_dtype(ref=dtype):
        return "references %d" % len(flat)
    if kind in (str, bytes):
        return ",".join((x.encode("utf-8", "surrogateescape") if isinstance(x, str) else bytes(x or b"")).hex() for x in flat)
    if kind is not None:
        return ",".join("[" + value(x, numpy.dtype(kind)) + "]" for x in flat)
    if dtype.kind == "c":  # in the file a compound
        part = numpy.dtype("f%d" % (dtype.itemsize // 2))
        return "{r:" + value(flat.real, part) + ";i:" + value(flat.imag, part) + "}"
    if dtype.kind == "f":
        return ",".join(struct.pack(">d", x).hex() for x in flat)
    if dtype.kind in "iub":
        return ",".join("%d" % x for x in flat)
    return ",".join(bytes(x).hex() for x in flat)


def short(text):
    return text if len(text) < 100 else hashlib.sha256(text.encode()).hexdigest()


def whole(holder, shape, dtype):
    """All values of a dataset or attribute as one array of the file's type."""
    if shape is None:
        return "null"
    return short(value(holder, dtype))


def filters(d):
    plist = d.id.get_create_plist()
    return ",".join(str(plist.get_filter(i)[0]) for i in range(plist.get_nfilters()))


def memory(holder):
    """The type to move values in: h5py has one except for bit fields."""
    kind = holder.get_type()
    return kind if kind.get_class() == h5py.h5t.BITFIELD else None


def array(holder, shape, dtype):
    """An array to read a dataset or an attribute into."""
    kind = memory(holder)
    if kind is not None and kind.get_order() == h5py.h5t.ORDER_BE:
        dtype = dtype.newbyteorder(">")
    return numpy.empty(shape, dtype=dtype)


LAYOUTS = {h5py.h5d.COMPACT: "compact", h5py.h5d.CONTIGUOUS: "contiguous", h5py.h5d.CHUNKED: "chunked"}


def shape(s):
    return "[" + " ".join(str(-1 if n is None else n) for n in s or ()) + "]"


def walk(lines, group, path, seen):
    for name in sorted(group, key=lambda n: n.encode("utf-8", "surrogateescape")):
        link = group.get(name, getlink=True)
        here = path.rstrip("/") + "/" + name
        if isinstance(link, h5py.SoftLink):
            lines.append("soft %s %s" % (here, link.path))
        elif isinstance(link, h5py.ExternalLink):
            lines.append("external %s %s %s" % (here, link.filename, link.path))
        else:
            thing(lines, group[name], here, seen)


def thing(lines, o, path, seen):
    address = h5py.h5o.get_info(o.id).addr
    if address in seen:
        lines.append("again %s %s" % (path, seen[address]))
        return
    seen[address] = path
    if isinstance(o, h5py.Group):
        lines.append("group %s" % path)
    elif isinstance(o, h5py.Dataset):
        layout = LAYOUTS[o.id.get_create_plist().get_layout()]
        data = None
        if o.shape is not None:
            data = array(o.id, o.shape, o.dtype)
            o.id.read(h5py.h5s.ALL, h5py.h5s.ALL, data, memory(o.id))
        lines.append("dataset %s %s %s %s chunks=%s filters=%s %s" % (
            path, shape(o.shape), shape(o.maxshape), layout, shape(o.chunks), filters(o), whole(data, o.shape, o.dtype)))
    else:
        lines.append("datatype %s" % path)
    for name in sorted(o.attrs, key=lambda n: n.encode("utf-8", "surrogateescape")):
        a = o.attrs.get_id(name)
        data = None
        if a.get_space().get_simple_extent_type() != h5py.h5s.NULL:
            data = array(a, a.shape, a.dtype)
            a.read(data, memory(a))
        lines.append("attribute %s %s %s %s" % (path, name, shape(a.shape), whole(data, None if data is None else a.shape, a.dtype)))
    if isinstance(o, h5py.Group):
        walk(lines, o, path, seen)


def describe(path):
    lines = []
    with h5py.File(path, "r") as f:
        thing(lines, f["/"], "/", {})
    with open(path + ".txt", "w", encoding="utf-8", errors="surrogateescape") as out:
        out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        describe(path)
