"""Tests of cidstore.py on files that h5py writes here by docs/FORMAT.md, with a CRC32C and a SipHash of their own."""
import gzip
import io
import multiprocessing
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
import uuid
from unittest import mock

import h5py
import numpy as np

import cidstore

FILE_UUID, SEED = bytes(range(16)), (0x0706050403020100, 0x0F0E0D0C0B0A0908)
S, CAPACITY, BUCKETS, BITS, COMMIT_NO, RING, BLOCK = 32, 256, 8, 2, 9, 264, 12  # RING and BLOCK in records
RUN = 1 << 32
MASKS = [0x00, 0x87, 0x1E, 0xB4, 0xFF]  # of 0 to 4 values
INSERT, DELETE, TXN_COMMIT, DELETE_VALUE, TXN_TIME, PAD, SPLIT = 1, 2, 4, 6, 8, 9, 10
M64 = (1 << 64) - 1


def table_entry(value):
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


TABLE = [table_entry(i) for i in range(256)]


def crc(data, *seeds):
    state = 0xFFFFFFFF
    for byte in b"".join((FILE_UUID, *(struct.pack("<Q", s) for s in seeds), data) if seeds else (data,)):
        state = TABLE[(state ^ byte) & 255] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def siphash(message, k0=SEED[0], k1=SEED[1]):
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(x, bits):
        return ((x << bits) | (x >> (64 - bits))) & M64

    def sip_round():
        for a, b, bits, turn in ((0, 1, 13, 32), (2, 3, 16, 0), (0, 3, 21, 0), (2, 1, 17, 32)):
            v[a] = (v[a] + v[b]) & M64
            v[b] = rotate(v[b], bits) ^ v[a]
            v[a] = rotate(v[a], turn)

    for word in (*struct.unpack("<QQ", message), 16 << 56):
        v[3] ^= word
        sip_round(), sip_round()
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(4):
        sip_round()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def place(key):
    return siphash(key.to_bytes(16, "big"))


def words(*numbers):
    return b"".join(struct.pack("<QQ", n >> 64, n & M64) for n in numbers)


def compound(*fields):
    return np.dtype([(n, t) for names, t in fields for n in names.split()])


ENTRY = compound(("key_high key_low value_high value_low", "<u8"), ("state_mask flags", "u1"), ("more", "<u2"),
                 ("value_count relation crc32c", "<u4"))
MORE = compound(("value_1_high value_1_low value_2_high value_2_low value_3_high value_3_low", "<u8"))
BUCKET = compound(("entry_end more_end", "<u2"), ("crc32c", "<u4"))
PAGE = compound(("prefix row_address commit created folded", "<u8"), ("entry_count more_count", "<u4"),
                ("local_depth bucket_bits flags", "u1"), ("padding", ("u1", 5)), ("reserved", ("u1", 16)),
                ("buckets", (BUCKET, BUCKETS)), ("tags", ("<u2", CAPACITY)))
RUNS = compound(("number low high base entries_address mores_address tags_address index_address", "<u8"),
                ("entry_count more_count slot_count live shift index_crc32c", "<u4"), ("reserved", ("u1", 16)))
SLOT = compound(("first first_more crc32c", "<u4"))
SET = compound(("owner_high owner_low row row_address commit count tombstone_count sorted_count", "<u8"), ("crc32c", "<u4"),
               ("class depth", "<u2"))
ID = compound(("high low", "<u8"))
RECORD = compound(("version_op flags", "u1"), ("reserved", "<u2"), ("checksum", "<u4"), ("key_high key_low value_high value_low", "<u8"))
LOG = compound(("records", (RECORD, BLOCK)), ("reserved", ("u1", 512 - 40 * BLOCK)))
EPOCH = compound(("epoch first end", "<u8"), ("anchor", ("u1", 32)))
POINTER = compound(("bucket_id", "<u4"), ("ref", "<u8"))


class Builder:
    """Collects groups, runs, sets and log records, then writes them as a file."""

    def __init__(self, depth=2):
        self.depth, self.rows, self.runs = depth, {}, {}
        self.sets, self.chunks, self.nodes = [], {}, 0
        self.records, self.end = {"wal": {}, "wal_old": {}}, bytes(512 - 40 * BLOCK)  # of a block
        self.limits = {}  # run → lowest and highest hash for which it counts
        self.model = {}  # key → set of values, the log not counted
        self.config = dict(last_applied=0, slice_through=0, slice_hash=0, wal_first=0)
        self.epochs = [(1, BLOCK, M64)]

    def put(self, key, values, run=None, dead=()):
        """An entry of key, of its group or of a run; no values: deleted, in a run."""
        self.model[key] = set(values)
        into = self.rows.setdefault(place(key) >> 64 - self.depth if self.depth else 0, []) if run is None else self.runs.setdefault(run, [])
        into.append((key, sorted(values), dead))

    def encoded(self, items, owner, commit, part):
        """Entries and more rows of items, numbered in each part, and the two ends of every part up to the last."""
        entries, more, ends, before = b"", b"", [], 0
        for key, values, dead in sorted(items, key=lambda item: (place(item[0]), item[0])):
            while len(ends) < part(place(key)):
                ends.append((len(entries) // 48, len(more) // 48))
                before = len(more) // 48
            n, rest, number = len(values), b"", 0
            if n > 4 or dead:
                body = words(key) + struct.pack("<QQBBHII", 0, self.spill(key, values, dead), 0, 0, 0, 0, 0)
            else:
                if n > 1:
                    rest, number = words(*values[1:]).ljust(48, b"\0"), len(more) // 48 - before + 1
                body = words(key, values[0] if n else 0) + struct.pack("<BBHII", MASKS[n], n == 0, number, n, 0)
            entries += body + struct.pack("<I", crc(body + rest, owner, commit))
            more += rest
        return entries, more, ends + [(len(entries) // 48, len(more) // 48)]

    def group(self, number, items):
        """Writes the row of a group; returns its page."""
        page = np.zeros((), PAGE)
        page["prefix"], page["local_depth"], page["bucket_bits"] = number << 64 - self.depth if self.depth else 0, self.depth, BITS
        page["flags"], page["created"], page["commit"] = 1, 3, 4
        entries, more, ends = self.encoded(items, number, 4, lambda h: (h << self.depth & M64) >> 64 - BITS)
        ends += [ends[-1]] * ((1 << BITS) - len(ends))
        for i, (end, more_end) in enumerate(ends):
            page["buckets"][i]["entry_end"], page["buckets"][i]["more_end"] = end, more_end
        page["tags"][:len(items)] = self.tags(items, self.depth + BITS)
        page["entry_count"], page["more_count"] = ends[-1]
        for name, data in ("entries", entries), ("more", more):
            for i in range(0, len(data), S * 48):
                self.chunks["/buckets/" + name, number * CAPACITY // S + i // (S * 48), 0] = data[i:i + S * 48].ljust(S * 48, b"\0")
        return page

    @staticmethod
    def tags(items, bits):
        return [(h << bits & M64) >> 48 for h in sorted(place(key) for key, *_ in items)]

    def write_runs(self, f):
        """Writes the runs, with slots of 2^61 hashes."""
        records, shift = [], 61
        f.create_group("runs")
        for number, items in sorted(self.runs.items()):
            entries, more, ends = self.encoded(items, RUN, number, lambda h: h >> shift)
            ends += [ends[-1]] * (8 - len(ends))
            index = np.array([(*start, 0) for start in [(0, 0), *ends]], SLOT)
            tags = np.array(self.tags(items, 64 - shift), "<u2")
            for name, data, of in (("entries", entries, ENTRY), ("more", more, MORE), ("tags", tags.tobytes(), "<u2"),
                                   ("index", index.tobytes(), SLOT)):
                if data:
                    f["runs/%s_%d" % (name, number)] = np.frombuffer(data, of)
            low, high = self.limits.get(number, (0, M64))
            records.append((number, low, high, 0, 0, 0, 0, 0, len(items), len(more) // 48, 8, len(items), shift, 0, np.zeros(16, "u1")))
        if records:
            f["runs"].attrs["runs"] = np.array(records, RUNS)

    def store(self, name, row, data, size):
        for i in range(0, len(data), size):
            self.chunks[name, row, i // size] = data[i:i + size].ljust(size, b"\0")

    def spill(self, key, values, dead):
        number, state = len(self.sets), np.zeros((), SET)
        self.sets.append(state)
        state["owner_high"], state["owner_low"], state["commit"] = key >> 64, key & M64, 5
        state["count"] = state["sorted_count"] = len(values)
        if len(values) > 1024:
            state["class"], (state["row"], state["crc32c"], state["depth"]) = 65535, self.tree(values)
        else:
            size = next(n for n in (6, 8, 12, 1024) if n >= len(values) + len(dead))
            row = words(*values, *sorted(dead)).ljust(size * 16, b"\0")
            self.store("/values/class_%d" % size, number, row, size * 16)
            state["class"], state["row"], state["crc32c"], state["tombstone_count"] = size, number, crc(row, number, 5), len(dead)
        return number

    def tree(self, values, fan=4):
        """Writes a tree with few children a node; returns root, checksum, depth."""
        level, depth = [(words(*values[i:i + 256]), values[i], len(values[i:i + 256])) for i in range(0, len(values), 256)], 0
        while True:
            root, up = len(level) == 1, []
            for data, first, count in level:
                self.nodes += 1
                self.store("/values/nodes", self.nodes - 1, data, 4096)
                check = crc(data.ljust(4096, b"\0"), self.nodes - 1, 5)
                up.append((words(first) + struct.pack("<QQQQQII", self.nodes - 1, 4096, count, 0, 5, check, 0), first, count))
            if root:
                return self.nodes - 1, check, depth
            level = [(b"".join(u[0] for u in up[i:i + fan]), up[i][1], sum(u[2] for u in up[i:i + fan])) for i in range(0, len(up), fan)]
            depth += 1

    def log(self, at, *ops, epoch=1, ring="wal", watermark=0, whole=True, pads=0):
        """A frame that begins with sequence at; returns the sequence after it."""
        end = [(TXN_TIME, 1 << 64, watermark << 64 | len(ops) + pads + 2), (TXN_COMMIT, 1, 2)]
        records = [*ops, *[(PAD, 0, 0)] * pads, *end * whole]
        for s, (op, key, value) in enumerate(records, at):
            head, rest = struct.pack("<BBH", op | (s // RING % 4) << 6, 0, 0), words(key, value)
            seen = head + bytes(4) + rest + bytes(512 - 40 * BLOCK) * (s % BLOCK == BLOCK - 1)
            self.records[ring][s % RING] = head + struct.pack("<I", crc(seen, epoch, s)) + rest
        return at + len(records)

    def write(self, path, directory="attribute", placed=False):
        """placed: rows of groups and of sets also lie in one piece, where page and set state say, after what HDF5 has."""
        groups = 1 << self.depth
        pages = np.array([self.group(g, self.rows.get(g, [])) for g in range(groups)], PAGE)
        with h5py.File(path, "w", libver="latest") as f:
            pointers = np.array([(i, 3) for i in range(1 << self.depth)], POINTER)
            self.attributes(f, pointers if directory == "attribute" else None)
            if directory == "dataset":
                f.create_dataset("directory", data=pointers, chunks=(1000,), fletcher32=True)
            if directory == "shards":
                for at in range(0, len(pointers), 100000):
                    f.create_dataset("directory/shard_%05d" % (at // 100000), data=pointers[at:at + 100000], chunks=(1000,))
            f.create_dataset("buckets/state", data=pages, chunks=(1,), maxshape=(None,), fletcher32=True)
            self.write_runs(f)
            f.create_dataset("values/state", data=np.array(self.sets, SET), chunks=(64,), maxshape=(None,), fletcher32=True)
            for name, of in ("entries", ENTRY), ("more", MORE):
                f.create_dataset("buckets/" + name, (groups * CAPACITY,), of, chunks=(S,), maxshape=(None,))
            for name, width in (("class_6", 6), ("class_8", 8), ("class_12", 12), ("class_1024", 1024), ("nodes", 256)):
                rows = self.nodes if name == "nodes" else len(self.sets)
                f.create_dataset("values/" + name, (rows, width), ID, chunks=(1, width), maxshape=(None, width))
            for (name, row, number), data in self.chunks.items():
                at = (row * S,) if name.startswith("/buckets") else (row, number * f[name].chunks[1])
                f[name].id.write_direct_chunk(at, data)
            for name, records in self.records.items():
                if name == "wal" or records:
                    parts = (records.get(i, bytes(40)) + self.end * (i % BLOCK == BLOCK - 1) for i in range(RING))
                    f[name] = np.frombuffer(b"".join(parts), LOG)
        return self.place(path) if placed else path

    def place(self, path):
        at, parts = os.path.getsize(path) + 65536 & ~63, []

        def put(name, row, count):
            data = b"".join(self.chunks.get((name, row + i, 0), b"") for i in range(count))
            parts.append(data.ljust(-len(data) % 64 + len(data), b"\0"))
            return len(parts[-1])
        with h5py.File(path, "r+") as f:
            pages, sets = f["buckets/state"][:], f["values/state"][:]
            for g, page in enumerate(pages):
                page["row_address"] = at
                for name, count in ("entries", page["entry_count"]), ("more", page["more_count"]):
                    at += put("/buckets/" + name, g * CAPACITY // S, -(-int(count) // S))
            for state in sets[sets["class"] != 65535]:
                sets["row_address"][sets["row"] == state["row"]] = at
                at += put("/values/class_%d" % state["class"], int(state["row"]), 1)
            f["buckets/state"][:] = pages
            if len(sets):
                f["values/state"][:] = sets
        with open(path, "r+b") as f:
            f.seek(at - sum(map(len, parts)))
            self.placed = f.tell(), at
            f.write(b"".join(parts))
        return path

    def attributes(self, f, pointers):
        a = f.create_group("config", track_order=True).attrs
        epochs = np.zeros(8, EPOCH)
        for i, e in enumerate(self.epochs):
            epochs[i]["epoch"], epochs[i]["first"], epochs[i]["end"] = e
        a["format_version"], a["creator"], a["epochs"] = np.uint32(2), "a test", epochs
        a["file_uuid"], a["hash_seed"] = np.frombuffer(FILE_UUID, "u1"), np.array(SEED, "<u8")
        a["global_depth"], a["num_buckets"], a["commit"] = np.uint8(self.depth), np.uint64(4), np.uint64(COMMIT_NO)
        for name, value in self.config.items():
            a[name] = np.uint64(value)
        if pointers is not None:
            a["directory"] = pointers


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "store.h5")

    def spares(self, model, lost):
        """Skipping gives all pairs except those of lost keys, of which it may give some; a loop gives the same, then raises."""
        pairs = {(k, v) for k in model for v in model[k]}
        with cidstore.open(self.path) as store:
            given, looped = list(store.pairs(skip_bad=True)), []
            with self.assertRaisesRegex(ValueError, "cannot be read, the first: "):
                for pair in store.pairs():
                    looped.append(pair)
            self.assertEqual(looped, given)
            self.assertEqual(len(store.to_dataframe(skip_bad=True)), len(given))
            self.assertRaises(ValueError, store.to_dataframe)
        self.assertEqual(len(given), len(set(given)))
        self.assertLessEqual({p for p in pairs if p[0] not in lost}, set(given))
        self.assertLess(set(given), pairs)
        return given

    def check(self, builder, want=None, **how):
        """What the reader gives is want, by default what the builder was given."""
        want = builder.model if want is None else want
        want = {k: sorted(v) for k, v in want.items() if v}
        with cidstore.open(builder.write(self.path, **how)) as store:
            self.assertEqual(sorted(store.pairs()), sorted((k, v) for k in want for v in want[k]))
            for key in {*builder.model, *want, 12345, 0, (1 << 128) - 1}:
                self.assertEqual(store.get(key), want.get(key, []))

    def refuses(self, text, read=lambda store: list(store.pairs())):
        with self.assertRaisesRegex(ValueError, text) as caught:
            with cidstore.open(self.path) as store:
                read(store)
        self.assertIn(self.path, str(caught.exception))


def inline(depth=2, keys=90):
    """Keys of one to four values, high bits and zero among them."""
    b, r = Builder(depth), random.Random(1)
    for i in range(keys):
        b.put(r.getrandbits(128) if i else 0, {r.getrandbits(128) if j else i << 60 for j in range(i % 4 + 1)})
    return b


class Tree(Case):
    def test_vectors(self):
        self.assertEqual(crc(b"123456789"), 0xE3069283)
        self.assertEqual(siphash(bytes(range(16)), *SEED), 0x3F2ACC7F57C29BDB)
        keys = [random.Random(2).getrandbits(128) for _ in range(50)]
        array = np.array([(k >> 64, k & M64) for k in keys], np.uint64)
        self.assertEqual(cidstore.siphash(SEED, array).tolist(), [place(k) for k in keys])
        for n in (0, 50):
            big = np.arange(n, dtype=np.uint64) + np.uint64(1 << 63)  # no float holds all of these
            got = cidstore.crc32c(list(FILE_UUID), np.arange(n), big, array[:n].astype("<u8").view(np.uint8))
            self.assertEqual(got.tolist(), [crc(words(k), i, (1 << 63) + i) for i, k in enumerate(keys[:n])])

    def test_checksums_of_every_length(self):
        r = random.Random(7)
        for n in (*range(4, 100), 1024, 4096, 16384):
            rows = np.frombuffer(r.randbytes(3 * n), np.uint8).reshape(3, n)
            got = cidstore.crc32c(list(FILE_UUID), np.arange(3), np.arange(3), rows)
            self.assertEqual(got.tolist(), [crc(row.tobytes(), i, i) for i, row in enumerate(rows)])
        many = np.frombuffer(r.randbytes(44 * 5000), np.uint8).reshape(-1, 44)  # more than are summed at a time
        got = cidstore.crc32c(list(FILE_UUID), np.arange(5000), np.zeros(5000, int), many)
        for i in (0, 1488, 1489, 1490, 4999):
            self.assertEqual(int(got[i]), crc(many[i].tobytes(), i, 0))

    def test_keys_of_one_hash(self):
        keys = np.array([(1, 5), (2, 5), (1, 5), (3, 9), (2, 5), (3, 9)], np.uint64)
        for hashes in ([7, 7, 7, 7, 7, 7], [1, 2, 1, 0, 2, 0], [1, 1, 1, 0, 1, 0]):
            self.assertEqual(sorted(cidstore.newest(keys, np.array(hashes, np.uint64)).tolist()), [2, 4, 5])
        self.assertEqual(cidstore.newest(keys[:0], np.zeros(0, np.uint64)).tolist(), [])
        test = cidstore.among(keys[:2])
        self.assertTrue(test(keys)[[0, 1, 2, 4]].all())
        r = np.random.default_rng(1)
        self.assertLess(test(r.integers(0, 1 << 63, (10000, 2), np.uint64)).sum(), 100)

    def test_rows_in_place(self):
        b = self.of_all_kinds()
        self.check(b, placed=True)
        b.write(self.path, placed=True)
        with open(self.path, "rb") as f:
            whole = f.read()
        with h5py.File(self.path, "r") as f:
            places = [f["buckets/" + n].id.get_chunk_info(i).byte_offset for n in ("entries", "more") for i in range(4)]
        start, end = b.placed
        want = sorted((k, v) for k in b.model for v in b.model[k])

        def damaged(*offsets):
            data = bytearray(whole)
            for at in offsets:
                data[at] ^= 1
            with open(self.path, "wb") as f:
                f.write(data)
        for at in [*range(start, end, (end - start) // 40), *places]:  # the same is in the other place
            damaged(at)
            with cidstore.open(self.path) as store:
                self.assertEqual(sorted(store.pairs()), want)
        damaged()
        for address in (4097, 1 << 40, M64, M64 - 63, end):  # of rows: nothing of ours lies there
            with h5py.File(self.path, "r+") as f:
                pages = f["buckets/state"][:]
                pages["row_address"] = address
                f["buckets/state"][:] = pages
            with cidstore.open(self.path) as store:
                self.assertEqual(sorted(store.pairs()), want)
                for key in b.model:
                    self.assertEqual(store.get(key), sorted(b.model[key]))
        damaged(start + 1, places[0] + 1)
        self.refuses("/buckets/entries: group 0: bad checksum")
        self.spares(b.model, {key for key in b.model if place(key) >> 62 == 0})

    def test_pages_that_contradict_themselves(self):
        b = inline()
        for field, value in ("entry_count", 1 << 31), ("entry_count", 3), ("more_count", (1 << 32) - 1):
            b.write(self.path)
            with h5py.File(self.path, "r+") as f:
                pages = f["buckets/state"][:]
                pages[field][1] = value
                f["buckets/state"][:] = pages
            self.refuses("group 1: .*/buckets/state: group 1: .* not what belongs there")
            self.spares(b.model, {key for key in b.model if place(key) >> 62 == 1})

    def test_damaged_states_of_sets(self):
        b = inline()
        for n in range(1, 151):
            b.put(n << 70, range(5 + n % 3))
        b.write(self.path)
        with h5py.File(self.path, "r+") as f:
            owners = [int(high) << 64 | int(low) for high, low in f["values/state"][:][["owner_high", "owner_low"]].tolist()]
            good = f["values/state"].id.read_direct_chunk((64,))[1]
            f["values/state"].id.write_direct_chunk((64,), bytes([good[0] ^ 1]) + good[1:])
        self.refuses("/values/state: chunk 1: .*Fletcher32")
        self.spares(b.model, set(owners[64:128]))
        with cidstore.open(self.path) as store:
            for key in owners[3], owners[149]:
                self.assertEqual(store.get(key), sorted(b.model[key]))
            self.assertRaisesRegex(ValueError, "Fletcher32", store.get, owners[70])

    def of_all_kinds(self):
        """Inline keys, spilled sets of several classes, a run over them, and operations over all of that in the log."""
        b, r = inline(), random.Random(11)
        for n in (5, 6, 7, 12, 13, 900, 1200):
            b.put(n << 90, {r.getrandbits(128) for _ in range(n)})
        b.put(1 << 100, range(5), dead={8, 9})
        for i, key in enumerate(list(b.model)[::5]):
            b.put(key, range(i % 4), run=8)
        return b

    def test_operations_over_all_kinds(self):
        b = self.of_all_kinds()
        model, ops = {k: set(v) for k, v in b.model.items()}, []
        for i, key in enumerate([*b.model, 1 << 101, 1 << 102]):
            values = sorted(model.get(key, ()))
            ops += [[(INSERT, key, 0), (INSERT, key, 1 << 64)], [(DELETE, key, 0)],
                    [(DELETE_VALUE, key, v) for v in values[:2] + [1 << 127]], [(DELETE, key, 0), (INSERT, key, 0)]][i % 4]
        b.log(BLOCK, *ops[:RING - 2 * BLOCK])
        for op, key, value in ops[:RING - 2 * BLOCK]:
            if op == INSERT:
                model.setdefault(key, set()).add(value)
            else:
                model[key] = set() if op == DELETE else model.get(key, set()) - {value}
        for placed in False, True:
            self.check(b, model, placed=placed)

    def test_empty(self):
        self.check(Builder(0))
        self.check(Builder(2))

    def test_inline(self):
        self.check(inline())

    def test_directory_forms(self):
        self.check(inline(11), directory="dataset")
        self.check(inline(17, 5), directory="shards")

    def test_names(self):
        b, hello = Builder(), uuid.UUID("9342d47a-1bab-5709-9869-c840b2eac501")
        b.put(hello.int, {1, 2})
        with cidstore.open(b.write(self.path)) as store:
            for key in ("hello", hello, hello.int):
                self.assertEqual(store.get(key), [1, 2])
            for key in (-1, 1 << 128):
                self.assertRaises(ValueError, store.get, key)
            self.assertEqual(store.get(np.uint64(1 << 63)), [])
            for key in (1.5, 1.0, np.float64(2), "1".encode(), None, (1,)):
                self.assertRaises(TypeError, store.get, key)

    def test_runs_supersede(self):
        b = inline(keys=40)
        keys = list(b.model)
        for run in 5, 8:
            for i, key in enumerate(keys[run:run + 20]):
                b.put(key, [] if i % 3 == 0 else range(i, i + i % 4 + 1), run=run)
        b.put(77, {1 << 127, 3}, run=8)
        self.check(b)

    def test_runs_that_do_not_count(self):
        b = inline(keys=40)
        model, keys = dict(b.model), list(b.model)
        for i, key in enumerate(keys[:20]):
            b.put(key, {i}, run=3)  # older than the rows
        for key in keys:
            b.put(key, {5, 6}, run=6)  # counts for some hashes alone
        b.limits[6] = 1 << 62, (1 << 63) - 1
        model.update((key, {5, 6}) for key in keys if place(key) >> 62 == 1)
        self.check(b, model)

    def test_spilled(self):
        b, r = inline(keys=20), random.Random(3)
        for n in (5, 6, 8, 900, 1025, 5000):
            b.put(n, {r.getrandbits(128) for _ in range(n)})
        b.put(1, {1, 2, 3, 4, 5}, dead={6, 7})
        b.put(2, {9}, dead={1, 2, 3})
        self.check(b)

    def test_wrong_bit_of_a_mask(self):
        self.check(inline(0, 1))
        with h5py.File(self.path, "r+") as f:
            entry = f["buckets/entries"][0]
            entry["state_mask"] = 0x87 ^ 1
            f["buckets/entries"][0] = entry
        self.refuses("/buckets/entries: group 0: bad checksum")
        self.refuses("group 0: bad checksum", lambda store: store.get(0))

    def test_damage(self):
        b = Builder(1)
        for key, n in ((1, 1), (2, 3), (3, 6), (4, 2000)):
            b.put(key, range(n))
        most = 0  # pairs of the tree that a damaged node of it left
        for name, row, _ in list(b.write(self.path) and b.chunks):
            with h5py.File(self.path, "r+") as f:
                at = (row * S,) if name.startswith("/buckets") else (row, 0)
                good = f[name].id.read_direct_chunk(at)[1]
                f[name].id.write_direct_chunk(at, bytes([good[0] ^ 1]) + good[1:])
            self.refuses("/(buckets|values)/[a-z_0-9]+: (row|group) %d: bad checksum" % (row // (CAPACITY // S) if len(at) == 1 else row))
            given = self.spares(b.model, b.model if len(at) == 1 else {3} if name.endswith("6") else {4})
            most = max(most, sum(key == 4 for key, _ in given) if name.endswith("nodes") else 0)
            with h5py.File(self.path, "r+") as f:
                f[name].id.write_direct_chunk(at, good)
        self.assertGreater(most, 900)
        for name in ("/buckets/state", "/values/state"):
            with h5py.File(self.path, "r+") as f:
                good = f[name].id.read_direct_chunk((0,))[1]
                f[name].id.write_direct_chunk((0,), bytes([good[0] ^ 1]) + good[1:])
            self.refuses("Fletcher32")
            with h5py.File(self.path, "r+") as f:
                f[name].id.write_direct_chunk((0,), good)
        for name in ("values/class_6", "buckets/state"):
            with h5py.File(self.path, "r+") as f:
                del f[name]
            self.refuses("'%s' doesn't exist" % name.split("/")[1])

    def test_damaged_run(self):
        b = inline()
        b.put(5, {1, 2}, run=7)
        for name in "entries", "more":
            self.path += name  # what is mapped by an exception's frames stays open
            with h5py.File(b.write(self.path), "r+") as f:
                part = f["runs/%s_7" % name][:]
                part.view("u1")[3] ^= 1
                f["runs/%s_7" % name][:] = part
            self.refuses("/runs: run 7: bad checksum")
            self.spares(b.model, {key for key in b.model if place(key) >> 62 == place(5) >> 62})
            self.refuses("/runs: group %d: bad checksum" % (place(5) >> 62), lambda store: store.get(5))

    def test_row_that_was_copied(self):
        """In the place of another of its group a row has a good checksum."""
        b = inline()
        b.write(self.path)
        with h5py.File(self.path, "r") as f:
            rows, ends = f["buckets/entries"][:S], f["buckets/state"][0]["buckets"]["entry_end"][:1 << BITS]
        single = [i for i in range(ends[-1]) if not rows["more"][i]]
        for old, new in (single[0], single[-1]), (single[-1], single[0]), (single[1], single[2]):
            lost = int(rows["key_high"][new]) << 64 | int(rows["key_low"][new])
            with h5py.File(self.path, "r+") as f:
                f["buckets/entries"][new] = rows[old]
            self.refuses("/buckets/entries: group 0: bad checksum, or not what belongs there")
            self.refuses("group 0: bad checksum, or not what belongs there", lambda store: store.get(lost))
            self.spares(b.model, {lost})
            with h5py.File(self.path, "r+") as f:
                f["buckets/entries"][new] = rows[new]

    def test_row_of_a_run_that_was_copied(self):
        b = inline()
        keys = sorted((key for key in b.model if len(b.model[key]) == 1), key=place)
        for i, key in enumerate(keys):
            b.put(key, {i}, run=7)
        for old, new in (0, 1), (0, len(keys) - 1), (len(keys) - 1, 0):
            self.path += "2"  # what is mapped by an exception's frames stays open
            with h5py.File(b.write(self.path), "r+") as f:
                f["runs/entries_7"][new] = f["runs/entries_7"][old]
            self.refuses("/runs: run 7: bad checksum")
            self.refuses("/runs: group %d: bad checksum" % (place(keys[new]) >> 62), lambda store: store.get(keys[new]))
            self.spares(b.model, {key for key in b.model if place(key) >> 61 in (place(keys[old]) >> 61, place(keys[new]) >> 61)})

    def test_edited_attributes(self):
        """A store, as it is and after h5py has changed one attribute in it."""
        folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "testdata", "golden", "format2")
        with gzip.open(os.path.join(folder, "closed.h5.gz")) as f:
            whole = f.read()
        for name in (None, "num_keys", "hash_seed", "global_depth", "epochs", "file_uuid", "wal_first", "runs"):
            with open(self.path, "wb") as f:
                f.write(whole)
            if name is None:
                with cidstore.open(self.path) as store:
                    self.assertEqual(len(list(store.pairs())), store.config["num_values"])
                continue
            with h5py.File(self.path, "r+") as f:
                of = f["runs" if name == "runs" else "config"].attrs
                value = np.array(of[name] if name in of else np.zeros(104, "u1"))
                value.reshape(-1).view("u1")[0] ^= 1
                (of.modify if name in of else of.create)(name, value)
            self.refuses("changed by another program: %s" % (".*" if name == "runs" else name))
        with open(self.path, "wb") as f:
            f.write(whole)
        with h5py.File(self.path, "r+") as f:
            states = f["values/state"][:]
            states["count"][np.flatnonzero(states["class"])[0]] -= 1
            f["values/state"][:] = states
        self.refuses("/config: num_values [0-9]+, found [0-9]+")
        with open(self.path, "wb") as f:
            f.write(whole[:4096] + bytes(8192) + whole[12288:])
        with cidstore.open(self.path) as store:  # nothing says what the attributes were
            self.assertEqual(len(list(store.pairs())), store.config["num_values"])

    def test_lost_chunk(self):
        b = inline()
        b.write(self.path)
        with h5py.File(self.path, "r+") as f:
            del f["buckets/more"]
            f.create_dataset("buckets/more", (4 * CAPACITY,), MORE, chunks=(S,))
        self.refuses("/buckets/entries: group 0: bad checksum")

    def test_wrong_group(self):
        b = inline()
        b.write(self.path)
        with h5py.File(self.path, "r+") as f:
            pages = f["buckets/state"][:]
            pages["prefix"] ^= np.uint64(1 << 63)
            f["buckets/state"][:] = pages
        self.refuses("/buckets/state: group %d: .* not what belongs there" % (place(0) >> 62), lambda store: store.get(0))

    def test_commits_while_it_opens(self):
        b = inline()
        b.write(self.path)

        class Busy(io.FileIO):
            """The head of the file is another at each of the first readings."""
            readings = 0

            def read(self, size=-1):
                data = super().read(size)
                if size == 12288:
                    Busy.readings += 1
                    if Busy.readings <= 400:
                        data = data[:-1] + bytes([Busy.readings & 1])
                return data

        self.addCleanup(sys.setrecursionlimit, sys.getrecursionlimit())
        with mock.patch.object(cidstore.io, "FileIO", Busy):
            sys.setrecursionlimit(180)  # attempts are not nested
            with cidstore.open(self.path) as store:
                self.assertEqual(len(list(store.pairs())), sum(map(len, b.model.values())))
            self.assertGreater(Busy.readings, 400)
            Busy.readings = 0
            with mock.patch.object(cidstore, "ATTEMPTS", 20):
                self.refuses("committed during each of 20 attempts")

    def test_not_ours(self):
        for content in (b"", b"text", os.urandom(10000)):
            with open(self.path, "wb") as f:
                f.write(content)
            self.refuses("file signature not found")
        with h5py.File(self.path, "w") as f:
            f["x"] = 1
        self.refuses("an HDF5 file that cidstore did not make")
        with h5py.File(self.path, "r+") as f:  # as the layouts before this one
            f.create_group("config").attrs["format_version"] = 1
        self.refuses("an HDF5 file that cidstore did not make")
        self.assertRaises(FileNotFoundError, cidstore.open, self.path + "x")

    def test_newer_format(self):
        Builder().write(self.path)
        with h5py.File(self.path, "r+") as f:
            f["config"].attrs["format_version"] = np.uint32(3)
        self.refuses("/config: this reader knows no format_version 3")

    def test_config_and_dataframe(self):
        b = inline()
        with cidstore.open(b.write(self.path)) as store:
            self.assertEqual([store.config[n] for n in ("creator", "commit", "file_uuid", "hash_seed")],
                             ["a test", COMMIT_NO, list(FILE_UUID), list(SEED)])
            try:
                import pandas  # noqa: F401
            except ImportError:
                self.skipTest("no pandas")
            frame = store.to_dataframe()
            self.assertEqual([str(t) for t in frame.dtypes], ["uint64"] * 4)
            rows = [(a << 64 | b, c << 64 | d) for a, b, c, d in frame.to_numpy().tolist()]
            self.assertEqual(sorted(rows), sorted(store.pairs()))

    def test_pin(self):
        if sys.platform != "linux":
            self.skipTest("pins are of Linux")
        import fcntl
        Builder().write(self.path)
        probe = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 1 << 61, 1 << 60, 0)
        with open(self.path, "rb") as f:
            def held():
                kind, _, start, length, _ = struct.unpack("hhqqi4x", fcntl.fcntl(f, 36, probe))
                return (start - (1 << 61), length) if kind != fcntl.F_UNLCK else None
            self.assertIsNone(held())
            with cidstore.open(self.path), cidstore.open(self.path):
                self.assertEqual(held(), (COMMIT_NO, 1))
            self.assertIsNone(held())

    def test_program(self):
        b = inline()
        b.write(self.path)
        run = [sys.executable, cidstore.__file__, self.path]
        lines = subprocess.run(run, check=True, stdout=subprocess.PIPE).stdout.decode().splitlines()
        self.assertEqual(sorted(lines), sorted("%032x\t%032x" % (k, v) for k in b.model for v in b.model[k]))
        bad = subprocess.run(run[:2] + [self.path + "x"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual((bad.returncode, bad.stdout, bad.stderr.count(b"\n")), (1, b"", 1))


def wrong(store, model, rounds):
    """How many of so many gets are wrong or fail."""
    keys, bad = list(model), 0
    random.shuffle(keys)
    for i in range(rounds):
        key = keys[i % len(keys)]
        try:
            bad += store.get(key) != sorted(model[key])
        except Exception:
            bad += 1
    return bad


@unittest.skipUnless(hasattr(os, "fork"), "no fork")
class Shared(Case):
    def setUp(self):
        super().setUp()
        self.b = inline(3, 300)
        r = random.Random(5)
        for n in range(5, 60):
            self.b.put(n << 70, {r.getrandbits(128) for _ in range(n)})
        for key in list(self.b.model)[::3]:
            self.b.put(key, {key & 7, 9}, run=8)
        self.b.write(self.path, placed=True)

    def in_children(self, work, count=4):
        """Runs work in forked children; each says with its exit code whether it was true."""
        children = []
        for _ in range(count):
            child = os.fork()
            if not child:
                code = 1
                signal.alarm(60)  # a lock that nobody gives back would hold it without end
                try:
                    code = 0 if work() else 1
                finally:
                    os._exit(code)
            children.append(child)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    def test_forked_children(self):
        with cidstore.open(self.path) as store:
            self.assertEqual(wrong(store, self.b.model, 5), 0)
            pids = self.in_children(lambda: wrong(store, self.b.model, 400) == 0)
            self.assertEqual(pids, [0] * 4)
            self.assertEqual(wrong(store, self.b.model, 50), 0)

    def test_parent_reads_beside_its_children(self):
        with cidstore.open(self.path) as store:
            parent = threading.Thread(target=lambda: found.append(wrong(store, self.b.model, 300)))
            found = []
            parent.start()
            self.assertEqual(self.in_children(lambda: wrong(store, self.b.model, 100) == 0), [0] * 4)
            parent.join()
            self.assertEqual(found, [0])

    def test_pin_is_the_childs_own(self):
        if sys.platform != "linux":
            self.skipTest("pins are of Linux")
        import fcntl
        probe = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 1 << 61, 1 << 60, 0)
        with cidstore.open(self.path) as store:
            self.in_children(lambda: store.get(0) and store.close(), 1)  # must not take the parent's away
            with open(self.path, "rb") as f:
                self.assertNotEqual(struct.unpack("hhqqi4x", fcntl.fcntl(f, 36, probe))[0], fcntl.F_UNLCK)

    def test_fork_within_pairs(self):
        with cidstore.open(self.path) as store:
            pairs = store.pairs()
            first = [next(pairs) for _ in range(10)]
            want = sorted((k, v) for k in self.b.model for v in self.b.model[k])
            self.assertEqual(self.in_children(lambda: sorted(first + list(pairs)) == want), [0] * 4)
            self.assertEqual(sorted(first + list(pairs)), want)

    def test_threads(self):
        with cidstore.open(self.path) as store:
            found = []
            threads = [threading.Thread(target=lambda: found.append(wrong(store, self.b.model, 150))) for _ in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(found, [0] * 4)

    def test_closed(self):
        store = cidstore.open(self.path)
        store.close()
        store.close()
        for read in (lambda: store.get(1), lambda: list(store.pairs()), store.to_dataframe, lambda: pickle.dumps(store)):
            self.assertRaisesRegex(ValueError, "the store is closed", read)

        def closed():
            try:
                store.get(1)
            except ValueError as error:
                return "the store is closed" in str(error)
        self.assertEqual(self.in_children(closed, 1), [0])

    def test_closed_by_the_parent_after_the_fork(self):
        store, (told, tell) = cidstore.open(self.path), os.pipe()
        child = os.fork()
        if not child:
            code = 1
            signal.alarm(60)
            try:
                code = os.read(told, 1) != b"x" or wrong(store, self.b.model, 50) != 0
            finally:
                os._exit(code)
        store.close()
        os.write(tell, b"x")
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        os.close(told)
        os.close(tell)

    def test_replaced(self):
        with cidstore.open(self.path) as store:
            other = self.path + "2"
            self.b.write(other)
            os.rename(other, self.path)
            self.assertEqual(wrong(store, self.b.model, 20), 0)

            def refused():
                try:
                    store.get(0)
                except ValueError as error:
                    return "another file stands there" in str(error)
            self.assertEqual(self.in_children(refused, 1), [0])

    def test_moved_to_another_folder(self):
        folder = os.getcwd()
        self.addCleanup(os.chdir, folder)
        os.chdir(os.path.dirname(self.path))
        with cidstore.open(os.path.basename(self.path)) as store:
            os.chdir("/")
            self.assertEqual(self.in_children(lambda: wrong(store, self.b.model, 20) == 0, 1), [0])

    def test_multiprocessing(self):
        keys = list(self.b.model)[:40]
        with cidstore.open(self.path) as store:
            for method in "fork", "spawn":
                with multiprocessing.get_context(method).Pool(2) as pool:
                    self.assertEqual(pool.map(store.get, keys), [sorted(self.b.model[key]) for key in keys])


class Identifiers(unittest.TestCase):
    def test_spellings(self):
        table = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "keys", "testdata", "identifiers.tsv")
        with open(table, encoding="utf-8", newline="\n") as f:
            rows = [line.rstrip("\n").split("\t") for line in f if line.strip()]
        self.assertGreater(len(rows), 20)
        for text, want in rows:
            self.assertEqual("%032x" % cidstore.identifier(text), want, text)

    def test_others(self):
        u = uuid.uuid4()
        for key, want in ((0, 0), ((1 << 128) - 1, (1 << 128) - 1), (np.uint64(7), 7), (np.int32(7), 7), (u, u.int)):
            self.assertEqual(cidstore.identifier(key), want)
        for key in (-1, 1 << 128, np.int64(-5)):
            self.assertRaises(ValueError, cidstore.identifier, key)
        for key in (True, np.bool_(True), 1.0, b"1", bytes(16), None, (1,), [1]):
            self.assertRaises(TypeError, cidstore.identifier, key)


class Log(Case):
    def expect(self, b, *ops):
        model = {k: set(v) for k, v in b.model.items()}
        for op, key, value in ops:
            if op == INSERT:
                model.setdefault(key, set()).add(value)
            elif op == DELETE:
                model.pop(key, None)
            else:
                model.get(key, set()).discard(value)
        self.check(b, model)

    def test_operations_apply_in_order(self):
        b = inline(keys=30)
        b.put(1, range(6))
        some, r = list(b.model), random.Random(4)
        ops = [(r.choice((INSERT, INSERT, DELETE, DELETE_VALUE)), r.choice(some + [1, 8, 9]), r.randrange(8)) for _ in range(150)]
        at = b.log(BLOCK, *ops[:70])
        at = b.log(at, *ops[70:71])
        at = b.log(at, (SPLIT, 0, 3))
        b.log(at, *ops[71:], pads=5)
        self.expect(b, *ops)

    def test_applied_and_torn(self):
        b, ops = inline(keys=5), [(INSERT, 7, 1), (INSERT, 7, 2), (DELETE, 0, 0)]
        b.config["last_applied"] = b.log(BLOCK, (INSERT, 7, 99)) - 1
        at = b.log(b.config["last_applied"] + 1, *ops)
        at = b.log(at, (INSERT, 7, 3), (INSERT, 7, 4), whole=False)
        b.log(at + 1, (INSERT, 7, 5))
        self.expect(b, *ops)

    def test_laps_and_stale_records(self):
        b = inline(keys=5)
        b.config["last_applied"] = 5 * RING - 4
        b.log(4 * RING + 3, (INSERT, 7, 98), (INSERT, 7, 99))
        b.log(5 * RING + 3, (INSERT, 7, 97), epoch=2)
        b.log(5 * RING - 3, (INSERT, 7, 1), (INSERT, 7, 2), (INSERT, 7, 3), (INSERT, 7, 4))
        self.expect(b, *[(INSERT, 7, i) for i in (1, 2, 3, 4)])

    def test_small_log_of_a_closed_store(self):
        with mock.patch.object(sys.modules[__name__], "RING", 4 * BLOCK):
            b = inline(keys=5)
            b.config.update(last_applied=1001 * BLOCK - 1, wal_first=1001 * BLOCK)
            b.epochs = [(7, BLOCK, M64)]
            self.expect(b)
            b.log(1001 * BLOCK, (INSERT, 7, 1), (INSERT, 7, 2), pads=BLOCK - 4, epoch=7)
            self.expect(b, (INSERT, 7, 1), (INSERT, 7, 2))

    def test_epochs_and_old_ring(self):
        b = inline(keys=5)
        b.config.update(last_applied=RING + 10, wal_first=2 * RING)
        b.epochs = [(1, BLOCK, RING + 8), (2, RING + 8, 2 * RING - 8), (4, 2 * RING - 8, 2 * RING + 16), (5, 2 * RING + 16, M64)]
        b.log(RING + 8, (INSERT, 6, 66), epoch=2, ring="wal_old")
        at = b.log(RING + 11, (INSERT, 7, 1), (INSERT, 7, 2), pads=RING - 23, epoch=2, ring="wal_old")
        self.assertEqual(at, 2 * RING - 8)
        at = b.log(at, (INSERT, 7, 3), (DELETE_VALUE, 7, 1), pads=4, epoch=4, ring="wal_old")
        self.assertEqual(at, 2 * RING)
        b.log(at, (INSERT, 7, 4), pads=13, epoch=4)
        b.log(2 * RING + 16, (INSERT, 7, 5), epoch=5)
        self.expect(b, *[(INSERT, 7, i) for i in (2, 3, 4, 5)])

    def test_slices(self):
        keys = sorted(range(100, 120), key=place)
        b = Builder()
        b.config.update(slice_hash=place(keys[10]))
        for key in keys[:10]:
            b.put(key, {2})
        ops = [op for key in keys for op in ((INSERT, key, 1), (INSERT, key, 2), (DELETE_VALUE, key, 1))]
        b.config["slice_through"] = b.log(BLOCK, *ops) - 1
        later = [(INSERT, keys[0], 1), (INSERT, keys[15], 1), (DELETE, keys[1], 0), (DELETE, keys[16], 0)]
        b.log(b.config["slice_through"] + 1, *later)
        self.expect(b, *ops[30:], *later)

    def test_acknowledged_damage(self):
        b = inline(keys=5)
        at = b.log(BLOCK, (INSERT, 7, 1), pads=5)
        b.log(at, (INSERT, 7, 2), pads=5)
        b.log(at + 8, (INSERT, 7, 3), watermark=at + 7)
        del b.records["wal"][at + 1]
        b.write(self.path)
        self.refuses("epoch 1: acknowledged log record %d: bad checksum" % (at + 1))
        b.epochs = [(1, BLOCK, at + 8), (2, at + 8, M64)]
        b.write(self.path)
        self.refuses("epoch 1: acknowledged log record %d: bad checksum" % (at + 1))

    def test_end_of_a_block(self):
        b = inline(keys=5)
        at = b.log(BLOCK, *[(INSERT, 7, i) for i in range(BLOCK - 2)])
        b.log(at, (INSERT, 7, 99), watermark=at - 1)
        self.expect(b, *[(INSERT, 7, i) for i in range(BLOCK - 2)], (INSERT, 7, 99))
        b.end = bytes(31) + b"\1"
        b.write(self.path)
        self.refuses("epoch 1: acknowledged log record %d: bad checksum" % (at - 1))

    def test_unknown_opcode(self):
        for ops in ([(3, 0, 0)], [(5, 0, 0)], [(INSERT, 1, 2), (63, 0, 0)]):
            b = inline(keys=5)
            b.log(BLOCK, *ops)
            b.write(self.path)
            self.refuses("unknown opcode of log record %d" % (BLOCK + len(ops) - 1))


if __name__ == "__main__":
    unittest.main()
