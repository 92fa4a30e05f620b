"""Writes a file whose names and shapes are legal and strange."""
import h5py, numpy, sys
with h5py.File(sys.argv[1], "w", libver="latest") as f:
    pairs = numpy.zeros(3, [("key", "<u8"), ("value", "<u8")])
    f["a\nb"] = pairs
    f["n" * 65000] = pairs
    g = f.create_group("g")
    g["up"] = f
    g["self"] = g
    f["round"] = h5py.SoftLink("round")
    f.create_dataset("huge", (2**62, 2), "u1", chunks=(1 << 20, 2))
    f.create_dataset("none", (2**63 - 1,), pairs.dtype, chunks=(64,))
    f["floats"] = numpy.zeros((3, 2))
    f["text"] = "abc"
    f["float columns"] = numpy.zeros(3, [("key", "<f8"), ("value", "<u8")])
    evil = "x\n\x1b[31m\x7f\u009b2J\u202e"
    d = f.create_dataset(evil, data=numpy.zeros(2, [(evil, "<i4")]))
    for value in (evil, [evil], numpy.bytes_(evil.encode()), numpy.zeros(1, [(evil, "<i4")])):
        d.attrs["%s%d" % (evil, len(d.attrs))] = value
    d.attrs["\U000e0001"] = "\U000e0001"
    f[evil + "type"] = numpy.dtype([(evil, "<f4")])
    f[evil + "soft"] = h5py.SoftLink(evil)
    f[evil + "external"] = h5py.ExternalLink(evil, evil)
    f[evil + "hard"] = d
    f["quoted"] = h5py.SoftLink("\"quoted\"")
