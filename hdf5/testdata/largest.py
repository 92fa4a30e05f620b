"""Writes a file with a chunk of 64 MiB, and one with a chunk of one byte more: largest.py
DIRECTORY."""
import sys

import h5py

for name, extra in (("most", 0), ("over", 1)):
    with h5py.File(sys.argv[1] + "/" + name + ".h5", "w", libver="latest") as f:
        f.create_dataset("d", (1,), "u1" if extra else "<u8", chunks=((64 << 20 if extra else 8 << 20) + extra,),
                         maxshape=(None,), compression="gzip", shuffle=True)[0] = 7
