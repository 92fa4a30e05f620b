"""Does what step of workload_test.go does, with h5py: flushes after each step, says so, and goes on until
it is killed. Each line of the input is the path for one more child that does so, because to import
h5py takes longer than the steps.
"""
import os
import sys
import h5py
import numpy

row = numpy.dtype([("Seq", "u4"), ("value", "f8"), ("ok", "?"), ("Place", "i2", 2), ("name", "S10"), ("unit", "S3")])


def say(word, n):
    os.write(1, b"%s %d\n" % (word.encode(), n))  # whole, whenever the kill comes


def rows_of(n):
    return sum(1 + i % 7 for i in range(1, n + 1))


def row_of(r):
    return (r, r / 2, r % 3 == 0, [-r, r], b"row %d" % r, b"m" + bytes([ord("a") + r % 26]))


def write(path):
    f = h5py.File(path, "a")
    n = int(f.attrs["step"]) if "step" in f.attrs else 0
    if n == 0:
        for name in list(f):
            del f[name]
        f.create_dataset("log/rows", (0,), row, maxshape=(None,), chunks=(16,), shuffle=True, compression=6, fletcher32=True)
        f.create_dataset("grid", (6, 10), "f4", chunks=(4, 4), fletcher32=True)
        f.create_dataset("piece", (5,), "i4")
        f.create_group("passing/of")
    count = rows_of(n)
    for name in list(f["passing/of"]):
        if int(name) > n:
            del f["passing/of"][name]  # of a step that was under way
    say("open", n)
    while True:
        n += 1
        say("begin", n)
        add = 1 + n % 7
        log = f["log/rows"]
        log.resize((count + add,))
        log[count:] = numpy.array([row_of(r) for r in range(count, count + add)], dtype=row)
        count += add
        f["grid"][n % 5:n % 5 + 2, n % 8:n % 8 + 3] = numpy.reshape([1, 2, 3, 4, 5, n], (2, 3))
        if n % 3 == 0:
            f["piece"][1:4] = n, -n, 7
        f.create_dataset("passing/of/%d" % n, data=((n * 1000 + numpy.arange(300)) % 65536).astype("u2"), chunks=(128,), fletcher32=True)
        if n > 2 and "%d" % (n - 2) in f["passing/of"]:
            del f["passing/of/%d" % (n - 2)]
        f.attrs["step"] = numpy.int64(n)
        f.flush()
        say("acked", n)


for line in sys.stdin:
    if os.fork() == 0:
        try:
            say("child", os.getpid())
            write(line.rstrip("\n"))
        except Exception:  # h5py cannot open it, or write to it
            pass
        os._exit(1)
    say("ended", os.waitstatus_to_exitcode(os.wait()[1]))
