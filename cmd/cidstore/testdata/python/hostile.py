"""Writes a file with a group of many links that a thousand groups in it share, which no HDF5
library makes: 20 million links, some of them a thousand deep."""
import struct, sys, h5py
with h5py.File(sys.argv[1], "w") as f:
    many = f.create_group("many")
    for i in range(20000):
        many["link%d" % i] = h5py.SoftLink("/nowhere")
    for i in range(1000):
        many.create_group("g%d" % i)
data = bytearray(open(sys.argv[1], "rb").read())
head = struct.pack("<HHI", 0x11, 16, 0) # a symbol table message
with h5py.File(sys.argv[1], "r") as f:
    groups = (f["many/g%d" % i] for i in range(1000))
    tables = [data.index(head, h5py.h5o.get_info(g.id).addr) + 8 for g in groups]
    own = data.index(head, h5py.h5o.get_info(f["many"].id).addr) + 8
for at in tables:
    data[at:at + 16] = data[own:own + 16]
open(sys.argv[1], "wb").write(data)
