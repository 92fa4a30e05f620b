"""Prints the pairs of a table as export prints those of a store: pairs.py FILE READER."""
import sys


def flat(path):
    import h5py
    return h5py.File(path)["pairs"][:].tolist()


def csr(path):
    import h5py
    f = h5py.File(path)
    keys, indptr, values = (f[name][:].tolist() for name in ("keys", "indptr", "values"))
    assert len(indptr) == len(keys) + 1 and indptr[0] == 0 and indptr[-1] == len(values)
    for i, key in enumerate(keys):
        for value in values[indptr[i]:indptr[i + 1]]:
            yield key + value


def rows(frame):
    return frame[["key_high", "key_low", "value_high", "value_low"]].itertuples(index=False, name=None)


def data_frame(path):
    import h5py
    import pandas
    frame = pandas.DataFrame(h5py.File(path)["pairs"][:])
    assert frame.dtypes.tolist() == ["uint64"] * 4
    return rows(frame)


def read_hdf(path):
    import pandas
    return rows(pandas.read_hdf(path, "pairs"))


for pair in globals()[sys.argv[2]](sys.argv[1]):
    print("%016x%016x\t%016x%016x" % pair)
