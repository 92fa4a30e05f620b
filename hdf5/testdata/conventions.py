"""Writes files in the forms of two conventions that stand on HDF5, as their libraries write
them, and describes them: conventions.py DIRECTORY. AnnData: anndata's own writer, encoding
versions of its file format 0.1.0. NeXus: NXroot, NXentry, NXdata and the like."""
import os
import sys

import h5py
import numpy

import describe

TEXT = h5py.string_dtype()
CELLS, GENES = 60, 25


def encoded(o, kind, version, **attributes):
    """What anndata puts on everything that it writes."""
    o.attrs["encoding-type"] = kind
    o.attrs["encoding-version"] = version
    for name, value in attributes.items():
        o.attrs[name] = value
    return o


def array(g, name, data, **options):
    return encoded(g.create_dataset(name, data=data, **options), "array", "0.2.0")


def texts(g, name, values):
    return encoded(g.create_dataset(name, data=numpy.array(values, dtype=object), dtype=TEXT), "string-array", "0.2.0")


def sparse(g, name, rng, shape, kind, dtype="<f4", **options):
    """A matrix with few values, by rows (csr) or by columns (csc)."""
    lines = shape[0] if kind == "csr_matrix" else shape[1]
    across = shape[1] if kind == "csr_matrix" else shape[0]
    counts = rng.integers(0, min(8, across), lines)
    counts[lines // 2] = 0
    m = encoded(g.create_group(name), kind, "0.1.0", shape=numpy.array(shape, dtype="<i8"))
    total = int(counts.sum())
    m.create_dataset("data", data=rng.integers(1, 900, total).astype(dtype), maxshape=(None,), **options)
    m.create_dataset("indices", data=numpy.concatenate([rng.permutation(across)[:n] for n in counts]).astype("<i4"), maxshape=(None,), **options)
    m.create_dataset("indptr", data=numpy.concatenate([[0], numpy.cumsum(counts)]).astype("<i4"), maxshape=(None,), **options)
    return m


def categorical(g, name, codes, categories, ordered):
    c = encoded(g.create_group(name), "categorical", "0.2.0", ordered=ordered)
    array(c, "codes", codes)
    if isinstance(categories[0], str):
        texts(c, "categories", categories)
    else:
        array(c, "categories", numpy.array(categories))


def frame(g, name, index, columns):
    f = encoded(g.create_group(name), "dataframe", "0.2.0", _index="_index")
    f.attrs.create("column-order", numpy.array(columns, dtype=object), dtype=TEXT)
    texts(f, "_index", index)
    return f


def nullable(g, name, kind, values, mask):
    n = encoded(g.create_group(name), kind, "0.1.0")
    array(n, "values", values)
    array(n, "mask", mask)


def anndata(path, libver, rng, options):
    with h5py.File(path, "w", libver=libver) as f:
        encoded(f, "anndata", "0.1.0")
        sparse(f, "X", rng, (CELLS, GENES), "csr_matrix", **options)
        obs = frame(f, "obs", ["cell-%d" % i for i in range(CELLS)], ["batch", "n_counts", "score", "depth", "kept", "größe"])
        categorical(obs, "batch", rng.integers(-1, 3, CELLS).astype("i1"), ["a", "b β", ""], False)
        categorical(obs, "depth", rng.integers(0, 2, CELLS).astype("i1"), [0.5, 7.25], True)
        array(obs, "n_counts", rng.integers(0, 10**6, CELLS), **options)
        array(obs, "score", rng.standard_normal(CELLS))
        array(obs, "kept", rng.integers(0, 2, CELLS).astype(bool))
        nullable(obs, "größe", "nullable-integer", rng.integers(0, 99, CELLS), rng.integers(0, 2, CELLS).astype(bool))
        var = frame(f, "var", ["gene %d" % i for i in range(GENES)], [])
        nullable(var, "unlisted", "nullable-boolean", rng.integers(0, 2, GENES).astype(bool), rng.integers(0, 2, GENES).astype(bool))
        for name in ("obsm", "varm", "obsp", "varp", "layers", "uns"):
            encoded(f.create_group(name), "dict", "0.1.0")
        array(f["obsm"], "X_pca", rng.standard_normal((CELLS, 7)).astype("f4"), **options)
        frame(f["obsm"], "frame", ["cell-%d" % i for i in range(CELLS)], [])
        sparse(f["obsp"], "distances", rng, (CELLS, CELLS), "csr_matrix", "<f8", **options)
        sparse(f["layers"], "by gene", rng, (CELLS, GENES), "csc_matrix", "<i4", **options)
        array(f["layers"], "dense", rng.integers(0, 9, (CELLS, GENES)).astype("u2"), **options)
        uns = f["uns"]
        encoded(uns.create_dataset("title", data="a title", dtype=TEXT), "string", "0.2.0")
        encoded(uns.create_dataset("resolution", data=0.75), "numeric-scalar", "0.2.0")
        encoded(uns.create_dataset("good", data=True), "numeric-scalar", "0.2.0")
        encoded(uns.create_dataset("complex", data=1 - 2j), "numeric-scalar", "0.2.0")
        uns.create_dataset("none", data=h5py.Empty("f4"))
        encoded(uns["none"], "null", "0.1.0")
        texts(uns, "colors", ["#1f77b4", "", "#ff7f0e"])
        encoded(uns.create_group("neighbors/params"), "dict", "0.1.0")
        ranked = numpy.zeros(5, dtype=[("0", TEXT), ("score", "<f4"), ("n", "<i8")])
        for i in range(5):
            ranked[i] = ("gene %d" % (i * 3), i / 3, -i)
        encoded(uns.create_dataset("names", data=ranked, dtype=ranked.dtype), "rec-array", "0.2.0")
        raw = encoded(f.create_group("raw"), "raw", "0.1.0")
        sparse(raw, "X", rng, (CELLS, 2 * GENES), "csr_matrix", **options)
        frame(raw, "var", ["gene %d" % i for i in range(2 * GENES)], [])
        # As anndata before 0.7 wrote a frame: a compound dataset.
        old = numpy.zeros(CELLS, dtype=[("index", "S8"), ("n", "<i4"), ("louvain", "i1")])
        old["index"], old["n"] = [b"cell-%d" % i for i in range(CELLS)], numpy.arange(CELLS)
        f.create_dataset("old obs", data=old)


def nx(g, name, kind, **attributes):
    c = g.create_group(name)
    c.attrs["NX_class"] = kind
    for key, value in attributes.items():
        c.attrs[key] = value
    return c


def field(g, name, data, units=None, **options):
    d = g.create_dataset(name, data=data, **options)
    if units:
        d.attrs["units"] = units
    return d


def nexus(path, libver, rng, options):
    with h5py.File(path, "w", libver=libver) as f:
        f.attrs["NX_class"] = "NXroot"
        f.attrs["default"] = "entry"
        f.attrs["file_time"] = "2026-11-30T08:00:00+00:00"
        f.attrs["creator"] = numpy.bytes_("a beamline")
        f.attrs["NeXus_version"] = numpy.bytes_(b"4.3.0")
        entry = nx(f, "entry", "NXentry", default="data")
        entry["title"] = "a scan über alles"
        entry["definition"] = "NXsas"
        entry["definition"].attrs["version"] = "1.0"
        entry.create_dataset("start_time", data=numpy.array([b"2026-11-30T08:00:00"], dtype="S25"))
        field(entry, "duration", numpy.array([12.5]), "s")
        instrument = nx(entry, "instrument", "NXinstrument")
        source = nx(instrument, "source", "NXsource")
        source["name"] = "a source"
        field(source, "energy", numpy.float32(6), "GeV")
        mono = nx(instrument, "monochromator", "NXmonochromator")
        field(mono, "wavelength", numpy.linspace(0.9, 1.1, 12).astype(">f4"), "angstrom")
        detector = nx(instrument, "detector", "NXdetector")
        frames = rng.integers(0, 4000, (12, 15, 17)).astype("<u2")
        data = field(detector, "data", frames, "counts", chunks=(1, 15, 17), maxshape=(None, 15, 17), **options)
        data.attrs["target"] = "/entry/instrument/detector/data"
        data.attrs["signal"] = numpy.int32(1)
        data.attrs["axes"] = "frame:y:x"  # the old way
        data.attrs["interpretation"] = "image"
        field(detector, "x_pixel_size", 75e-6, "m")
        mask = field(detector, "pixel_mask", rng.integers(0, 2**31, (15, 17)).astype(">u4"))
        mask.attrs["long_name"] = "mask of pixels"
        nx(detector, "transformations", "NXtransformations")
        turn = field(detector["transformations"], "two_theta", numpy.arange(12.0), "deg")
        turn.attrs["transformation_type"] = "rotation"
        turn.attrs["vector"] = numpy.array([0.0, -1.0, 0.0])
        turn.attrs["offset"] = numpy.array([0, 0, 0.5], dtype="<f4")
        turn.attrs["depends_on"] = "."
        plot = nx(entry, "data", "NXdata", signal="data", two_theta_indices=numpy.int32(0))
        plot.attrs.create("axes", numpy.array(["two_theta", ".", "."], dtype=object), dtype=TEXT)
        plot["data"] = data
        plot["two_theta"] = h5py.SoftLink("/entry/instrument/detector/transformations/two_theta")
        plot["elsewhere"] = h5py.ExternalLink("other.nxs", "/entry/data/data")
        events = nx(entry, "events", "NXevent_data")
        n = 3000
        field(events, "event_id", rng.integers(0, 255, n).astype("<u4"), chunks=(512,), maxshape=(None,), **options)
        field(events, "event_time_offset", numpy.sort(rng.integers(0, 10**6, n)).astype("<i8"), "ns", chunks=(512,), maxshape=(None,), **options)
        pulses = field(events, "event_time_zero", numpy.arange(40) * 71428571, "ns", maxshape=(None,), chunks=(16,))
        pulses.attrs["offset"] = "2026-11-30T08:00:00"
        field(events, "total_counts", numpy.uint64(2**63 + n))
        sample = nx(entry, "sample", "NXsample")
        sample["name"] = numpy.bytes_("wax")
        field(sample, "temperature", numpy.array([[20.5, 21.0]]), "K").attrs["status"] = numpy.array([b"ok", b"late"])
        log = nx(sample, "temperature_log", "NXlog")
        field(log, "time", numpy.arange(5.0), "s").attrs["start"] = "2026-11-30T08:00:00"
        field(log, "value", numpy.array([1, 2, 3, 4, 5], dtype="<f2"))
        user = nx(entry, "user", "NXuser")
        user.create_dataset("names", data=numpy.array(["ä", "bcd", ""], dtype=object), dtype=TEXT)
        nx(entry, "notes", "NXcollection").create_dataset("blob", data=numpy.void(b"\x00\x01\xff"))
        process = nx(entry, "process", "NXprocess")
        process.create_dataset("ranges", (3,), dtype=h5py.vlen_dtype("<i4"))[1] = numpy.array([4, 5], "<i4")
        process["of"] = h5py.SoftLink("/entry/instrument")
        field(process, "flags", numpy.array([1, 0, 1], dtype=h5py.enum_dtype({"off": 0, "on": 1}, basetype="u1")))


def main(directory):
    options = {
        "plain": {},
        "packed": {"compression": "gzip", "shuffle": True, "fletcher32": True},
        "lzf": {"compression": "lzf"},
    }
    for libver in ("earliest", "v108", "v110", "latest"):
        for name, filters in options.items():
            for make in (anndata, nexus):
                path = os.path.join(directory, "%s-%s-%s.h5" % (make.__name__, libver, name))
                make(path, libver, numpy.random.default_rng(20261130), filters)
                describe.describe(path)


if __name__ == "__main__":
    main(sys.argv[1])
