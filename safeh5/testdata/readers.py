"""Reads the file of TestForeignReaders by h5py, PyTables and pandas."""
import sys
import h5py
import numpy
import pandas
import tables

path = sys.argv[1]
with h5py.File(path, "r") as f:
    for name, dtype in (("u8", "u1"), ("i16", "i2"), ("u32", "u4"), ("i64", "i8"), ("f32", "f4"), ("f64", "f8")):
        for kind in ("piece", "chunked", "packed"):
            d = f["numbers/%s/%s" % (name, kind)]
            assert d.dtype == dtype and d.shape == (7, 5), (name, kind, d)
            assert (d[:] == numpy.arange(35).reshape(7, 5)).all(), (name, kind)
    assert f["bools"].dtype == bool and list(f["bools"][:]) == [True, False, True]
    assert h5py.check_enum_dtype(f["colors"].dtype) == {"red": 1, "blue": -3} and f["colors"].dtype == "i2", f["colors"].dtype
    assert list(f["colors"][:]) == [1, -3, 9, 1] and f["colors"].attrs["first"] == 1 and list(f["colors"].attrs["some"]) == [-3, 1]
    assert h5py.check_enum_dtype(f["states"].dtype) == {"off": 0, "on": 200} and list(f["states"][:]) == [0, 200, 200]
    assert h5py.check_enum_dtype(f["table"].dtype["color"]) == {"red": 1, "blue": -3} and set(f["table"]["color"]) == {-3}
    assert f["complex"].dtype == "c16" and list(f["complex"][:]) == [1 + 2j, -3j]
    assert f["texts"].dtype == "S6" and [t.decode() for t in f["texts"][:]] == ["ä", "six by", ""]
    assert f["scalar"].shape == () and f["scalar"][()] == 2.5
    assert f["empty"].shape == (0,) and f["empty"].maxshape == (None,)
    assert (f["cube"][:, 1, :] == 0).all() and (f["cube"][1, 2, 1:3] == [8, 9]).all()
    assert f["table"].attrs["unit"] == b"mm" and list(f["table"].attrs["range"]) == [0.5, 9.5]
    assert list(f.attrs["names"]) == [b"a", b"bcd"] and f.attrs["flag"] == True and f.attrs["none"].shape == (0,)
    table = f["table"][:]
    assert f["wild"].id.get_chunk_info(0).filter_mask == 2, f["wild"].id.get_chunk_info(0)
    assert f["wild"][:].sum() == int(f["wild"].attrs["sum"])
assert list(table["id"]) == list(range(50)) and list(table["inner"]["depth"]) == [i / 4 for i in range(50)]
with tables.open_file(path, "r") as f:
    node = f.get_node("/readings")
    assert isinstance(node, tables.Table), node
    assert [r["id"] for r in node.where("value > 10")] == list(range(21, 50))
    assert (f.get_node("/numbers/f64/packed")[:] == numpy.arange(35).reshape(7, 5)).all()
frame = pandas.read_hdf(path, "readings")
assert list(frame["id"]) == list(range(50)) and list(frame["value"]) == [i / 2 for i in range(50)], frame
print("good", h5py.version.hdf5_version, tables.__version__, pandas.__version__)
