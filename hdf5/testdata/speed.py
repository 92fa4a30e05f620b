"""The side of h5py in the benchmarks of package hdf5: speed.py make DIRECTORY MEBIBYTES
writes the files; speed.py serve DIRECTORY does what each line on its input says, and
answers with the seconds that it took: elapsed, and of processor time."""
import os
import sys
import time

import h5py
import numpy

LINKS = 20000


def make(directory, mebibytes):
    rng = numpy.random.default_rng(20261130)
    walk = numpy.cumsum(rng.integers(-50, 51, mebibytes << 18, dtype="i4"), dtype="i4").reshape(-1, 1024)
    kinds = {
        "plain": ((256, 1024), {}),
        "tiles": ((256, 256), {}),
        "gzip": ((256, 1024), {"compression": "gzip"}),
        "shuffle": ((256, 1024), {"compression": "gzip", "shuffle": True}),
        "doubles": ((128, 1024), {"compression": "gzip", "shuffle": True}),
    }
    for name, (chunks, options) in kinds.items():
        data = walk[:len(walk) // 2] / 8 if name == "doubles" else walk
        with h5py.File(os.path.join(directory, name + ".h5"), "w") as f:
            f.create_dataset("d", data=data, chunks=chunks, **options)
    for name, libver in (("table", "earliest"), ("dense", "latest")):
        with h5py.File(os.path.join(directory, name + ".h5"), "w", libver=libver) as f:
            g = f.create_group("g")
            for i in range(LINKS):
                g.create_group("link %d" % (i * 7919 % LINKS))


def array(f, held):
    """The whole dataset in an array that is there already."""
    d = f["d"]
    if held.get("shape") != (d.shape, d.dtype):
        held["shape"], held["array"] = (d.shape, d.dtype), numpy.ones(d.shape, d.dtype)
    d.read_direct(held["array"])


def blocks(f, held):
    """The dataset in blocks of 1 MiB."""
    d = f["d"]
    n = max(1, (1 << 20) // (d.shape[1] * d.dtype.itemsize))
    for i in range(0, len(d), n):
        d[i:i + n]


def names(f, held):
    """The names of all links."""
    if len(list(f["g"])) != LINKS:
        raise ValueError("links are missing")


def opened(f, held):
    """Every link opened by its name."""
    g = f["g"]
    for i in range(LINKS):
        g["link %d" % i]


def serve(directory):
    held = {}
    for line in sys.stdin:
        task, name = line.split()
        began, used = time.perf_counter(), time.process_time()
        with h5py.File(os.path.join(directory, name + ".h5"), "r") as f:
            globals()[task](f, held)
        print(time.perf_counter() - began, time.process_time() - used, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], int(sys.argv[3]))
    else:
        serve(sys.argv[2])
