"""Reads files of the workload as any h5py program would; one command a line:

check PATH   opens the file, compares all of it, and prints its step
hold PATH    opens the file and keeps it open
held         compares all of that file, and closes it
kept N PATH  of a file that h5py wrote: reads all of it, and compares what was flushed
             with step N; a step under way may be there in part
"""
import sys
import h5py
import numpy


def rows_of(n):
    return sum(1 + i % 7 for i in range(1, n + 1))


def row_of(r):
    unit = b"m" + bytes([ord("a") + r % 26])
    return (r, r / 2, r % 3 == 0, [-r, r], b"row %d" % r, unit)


def check(f):
    n = int(f.attrs["step"]) if "step" in f.attrs else 0
    if n == 0:
        assert len(f) == 0, list(f)
        return 0
    log = f["log/rows"]
    assert log.compression == "gzip" and log.shuffle and log.fletcher32
    assert log.maxshape == (None,)
    rows = log[:]
    assert rows.dtype.names == ("Seq", "value", "ok", "Place", "name", "unit"), rows.dtype
    assert rows.dtype["ok"] == bool, rows.dtype
    want = numpy.array([row_of(r) for r in range(rows_of(n))], dtype=rows.dtype)
    assert (rows == want).all()
    grid, piece = numpy.zeros(60, "f4"), numpy.zeros(5, "i4")
    for i in range(1, n + 1):
        at = i % 5 * 10 + i % 8
        grid[at:at + 3] = 1, 2, 3
        grid[at + 10:at + 13] = 4, 5, i
        if i % 3 == 0:
            piece[1:4] = i, -i, 7
    assert (f["grid"][:] == grid.reshape(6, 10)).all()
    assert f["piece"].chunks is None and (f["piece"][:] == piece).all()
    assert sorted(f["passing/of"], key=int) == [str(i) for i in range(max(1, n - 1), n + 1)]
    for i in range(max(1, n - 1), n + 1):
        passing = f["passing/of/%d" % i][:]
        assert (passing == (i * 1000 + numpy.arange(300)) % 65536).all()
    return n


def read(name, o):
    if isinstance(o, h5py.Dataset):
        o[()]


def kept(f, n):
    f.visititems(read)
    if n > 0:
        assert int(f.attrs["step"]) >= n, (f.attrs["step"], n)
        rows = f["log/rows"][:rows_of(n)]
        want = numpy.array([row_of(r) for r in range(rows_of(n))], dtype=rows.dtype)
        assert len(rows) == len(want) and (rows == want).all()


held = None
for line in sys.stdin:
    try:
        command, _, path = line.strip().partition(" ")
        if command == "check":
            with h5py.File(path, "r") as f:
                print("step", check(f), flush=True)
        elif command == "kept":
            n, _, path = path.partition(" ")
            with h5py.File(path, "r") as f:
                kept(f, int(n))
            print("kept", n, flush=True)
        elif command == "hold":
            held = h5py.File(path, "r")
            print("step", int(held.attrs["step"]), flush=True)
        elif command == "held":
            print("step", check(held), flush=True)
            held.close()
    except Exception as e:
        print("failed", repr(e), flush=True)
