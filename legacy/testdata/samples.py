"""Makes the samples of this folder and their expected pairs, with h5py: samples.py.
They have what the samples that the Python package left, layout-* and upstream-*, do
not have."""
import json
import os
import shutil
import uuid

import h5py
import numpy

ENTRY = numpy.dtype([("key_high", "<u8"), ("key_low", "<u8"), ("slots", "<u8", (4,)), ("state_mask", "u1"), ("version", "<u4")])
SWAPPED = ENTRY.newbyteorder(">")
ROW = numpy.dtype([("key_high", "<u8"), ("key_low", "<u8"), ("bucket_id", "<i8"), ("spill_ptr", "S32"), ("state_mask", "u1"), ("version", "<u4")])
WORDS = ["high", "high_mid", "low_mid", "low"]
WIDE = numpy.dtype([(word, "<u8") for word in WORDS])
WIDE_ENTRY = numpy.dtype([("key_" + word, "<u8") for word in WORDS] + [("slots", WIDE, (2,)), ("checksum", "<u8", (4,))])
MASKS = [0x00, 0x87, 0x99, 0x1E, 0xAA, 0x2D, 0x33, 0xB4, 0x4B, 0xCC, 0xD2, 0x55, 0xE1, 0x66, 0x78, 0xFF]


def words(name):
    number = uuid.uuid5(uuid.NAMESPACE_DNS, name).int
    return number >> 64, number & (1 << 64) - 1


def entry(name, slots, mask):
    return (*words(name), slots, mask, 1)


def store(name, marker="cidtree_version"):
    f = h5py.File(name, "w", libver="latest")
    f.attrs[marker] = numpy.bytes_("1.0")
    f.create_group("nodes")
    f.create_group("values/sp")
    f.create_group("buckets")
    f.create_group("config").attrs["format_version"] = 1
    return f


def odd():
    """Names with slashes and beyond ASCII, packed and swapped rows, both forms of the directory, value 0."""
    pairs = [("zero", 0), ("largest", 2**64 - 1), ("ключ", 5), ("", 6)]
    with store("odd.h5") as f:
        rows = [entry(key, (value, 0, 0, 0), MASKS[1]) for key, value in pairs]
        rows.append(entry("third slot", (0, 0, 7, 0), MASKS[4]))
        pairs.append(("third slot", 7))
        f.create_dataset("buckets/bucket_0", data=numpy.array(rows, SWAPPED), chunks=(2,), compression="gzip", shuffle=True)
        f["buckets/bucket_12"] = numpy.array([entry("a/b/c", (0, 0, 0, 0), 0)], ENTRY)
        f.create_dataset("values/sp/valueset_a/b/c", data=numpy.arange(100, dtype=">u8"), chunks=(7,), compression="gzip")
        pairs += [("a/b/c", value) for value in range(100)]
        named = [key for key, _ in pairs[:3]]
        f["config"].attrs["directory"] = json.dumps({key: 0 for key in named})
        rows = [(*words(key), 0, b"", 0, 1) for key in ("", "third slot")] + [(*words("a/b/c"), 12, b"valueset_a/b/c", 0, 1)]
        f.create_dataset("directory", data=numpy.array(rows, ROW))
        f["values/sp/valueset_orphan"] = numpy.arange(3, dtype="<u8")
        f["values/sp/other"] = numpy.arange(3, dtype="<u8")
        f["buckets/other"] = numpy.arange(3, dtype="<u8")
        f["buckets/bucket_13"] = numpy.zeros((2, 2), ENTRY)
        f.create_dataset("buckets/bucket_14", (2**40,), ENTRY, chunks=(1000,))
        f.create_group("buckets/bucket_15")
    return pairs


def gaps():
    """A bucket of which one chunk does not have its checksum."""
    pairs = [("key%d" % i, i) for i in range(40)]
    with store("gaps.h5") as f:
        rows = [entry(key, (value, 0, 0, 0), MASKS[1]) for key, value in pairs]
        f.create_dataset("buckets/bucket_0", data=numpy.array(rows, ENTRY), chunks=(8,), fletcher32=True)
        f["config"].attrs["directory"] = json.dumps({key: 0 for key, _ in pairs})
        chunk = f["buckets/bucket_0"].id.get_chunk_info(2)
    with open("gaps.h5", "r+b") as f:
        f.seek(chunk.byte_offset + 20)
        f.write(b"\xff")
    return pairs[:16] + pairs[24:]


def collision():
    """Two keys of 256 bits that begin alike."""
    with store("collision.h5", "cidstore_version") as f:
        one = (1, 2, 3, 4)
        rows = [((1, 2, 3, 4), [one, (0, 0, 0, 0)], (0,) * 4), ((1, 2, 3, 5), [one, (0, 0, 0, 0)], (0,) * 4)]
        f["buckets/bucket_0000"] = numpy.array([(*key, slots, sums) for key, slots, sums in rows], WIDE_ENTRY)


def slots():
    """An entry of every mask, with values in the slots that it says."""
    pairs = []
    rows = []
    for mask in range(1, 16):
        key = "mask%d" % mask
        used = [100 * mask + i if mask >> i & 1 else 0 for i in range(4)]
        rows.append(entry(key, used, MASKS[mask]))
        pairs += [(key, value) for value in used if value]
    with store("slots.h5") as f:
        f["buckets/bucket_0"] = numpy.array(rows, ENTRY)
        f["config"].attrs["directory"] = json.dumps({"mask%d" % i: 0 for i in range(1, 16)})
    return pairs


def fill():
    """A bucket of rows that were never written: nothing in the file, and all the same."""
    with store("fill.h5") as f:
        f.create_dataset("buckets/bucket_0", (300_000,), ENTRY, chunks=(100,))


def killed():
    """A store without keys, as it is while a writer has it open."""
    with store("killed-writing.h5") as f:
        f.swmr_mode = True
        f.flush()
        shutil.copy("killed-writing.h5", "killed.h5")
    os.remove("killed-writing.h5")


for make in odd, gaps, slots:
    with open(make.__name__ + ".expected.tsv", "w", encoding="utf-8") as out:
        out.writelines("%s\t%d\n" % pair for pair in make())
collision()
fill()
killed()
