#!/usr/bin/env python3
"""Reads CIDStore files with h5py and numpy alone; docs/FORMAT.md explains every name here.

    with cidstore.open("words.cidstore") as store:
        store.get("hello")        # every value of the key, ascending ints
        for key, value in store.pairs(): ...

A store is the file as it was when it was opened: its tree, and over that the operations that only its log has. All is
held against its checksums; a pin (Linux) keeps a writer from reusing what is read. A store is for one thread."""
import contextlib
import io
import operator
import struct
import sys
import uuid
if sys.platform != "win32":
    import fcntl

import h5py
import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured as words

FORMAT_VERSION = 1
PIN, F_OFD_SETLK = 1 << 61, 37  # a reader of commit n shares the lock of byte PIN + n
INSERT, DELETE, TXN_COMMIT, DELETE_VALUE = 1, 2, 4, 6
OPCODES = [INSERT, DELETE, TXN_COMMIT, DELETE_VALUE, 9, 10, 11, 20, 21, 22]  # the others change no pair
PRESENT, TREE, DELETED = (1 << 64) - 1, 65535, 1  # an epoch's end; a set's class; an entry's flag
KEY, VALUE, OWNER = ([name + "_high", name + "_low"] for name in ("key", "value", "owner"))
CHILD = np.dtype([(name, "<u8") for name in ("separator_high", "separator_low", "row", "address", "count",
                                             "tombstone_count", "commit")] + [("crc32c", "<u4"), ("reserved", "<u4")])
CRC_TABLE = np.arange(1 << 16, dtype=np.uint32)  # of two bytes at once
for _ in range(16):
    CRC_TABLE = (CRC_TABLE >> np.uint32(1)) ^ (CRC_TABLE & np.uint32(1)) * np.uint32(0x82F63B78)


def crc32c(file_uuid, numbers, commits, rows):
    """CRC32C of each row, an even number of bytes, seeded with file_uuid, a number and a commit."""
    seeds = np.stack([numbers.astype("<u8"), commits.astype("<u8")], 1).view(np.uint8)
    data = np.hstack([np.tile(np.array(file_uuid, np.uint8), (len(rows), 1)), seeds, rows])
    state = np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for pair in np.ascontiguousarray(data.view("<u2").T):
        state = CRC_TABLE[(state ^ pair) & np.uint32(0xFFFF)] ^ (state >> np.uint32(16))
    return state ^ np.uint32(0xFFFFFFFF)


def siphash(seed, keys):
    """SipHash-2-4 of keys, n × 2 words, each as 16 bytes big-endian."""
    v = np.array([0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573], np.uint64)
    v = np.repeat((v ^ np.array([*seed, *seed], np.uint64))[:, None], len(keys), 1)
    high, low = keys.byteswap().T
    for word, end, rounds in (high, 0, 2), (low, 0, 2), (16 << 56, 0, 2), (0, 0xFF, 4):
        v[3] ^= np.uint64(word)
        v[2] ^= np.uint64(end)
        for a, b, n, m in rounds * ((0, 1, 13, 32), (2, 3, 16, 0), (0, 3, 21, 0), (2, 1, 17, 32)):
            v[a] += v[b]
            v[b] = (v[b] << np.uint64(n) | v[b] >> np.uint64(64 - n)) ^ v[a]
            v[a] = v[a] << np.uint64(m) | v[a] >> np.uint64(-m % 64)
        v[0] ^= np.uint64(word)
    return np.bitwise_xor.reduce(v)


def replay(pairs, codes, operations):
    """What operations, n × 4 words, leave of pairs, n × 4 words, when they are applied in their order."""
    if not len(operations):
        return pairs
    rows, codes = np.concatenate([pairs, operations]), np.append(np.full(len(pairs), INSERT, np.uint8), codes)
    time = np.lexsort(rows.T[::-1])  # stable: equal rows stay in their order, and the last one counts
    rows, codes = rows[time], codes[time]
    change = np.vstack([rows[1:] != rows[:-1], [[True] * 4]])  # to the next row
    ends = np.flatnonzero(change[:, :2].any(1))  # of the rows of each key
    counts = np.diff(ends, prepend=-1)
    deleted = np.maximum.reduceat(np.where(codes == DELETE, time, -1), ends - counts + 1)  # the last time
    return rows[change.any(1) & (codes == INSERT) & (time > np.repeat(deleted, counts))]


def demand(good, what, numbers):
    """ValueError about the first of these numbers that is not good."""
    for number in np.asarray(numbers)[~good][:1]:
        raise ValueError("%s %d: bad checksum, or not what belongs there" % (what, number))


class Store(contextlib.AbstractContextManager):
    """One file, as it was when it was opened. config: the attributes of /config, those of the committed tree.
    ValueError: not a CIDStore file, a newer format, or damaged, found so now or later. OSError: as from open()."""

    def __init__(self, path):
        self._file, self._raw, damage = None, io.FileIO(path), None
        if sys.platform != "win32":
            fcntl.flock(self._raw, fcntl.LOCK_SH | fcntl.LOCK_NB)  # who truncates the file has it alone
        head = self._raw.read(12288)  # superblock and commit slots: no commit leaves them as they were
        try:
            self._file = h5py.File(self._raw, "r")  # by descriptor: HDF5 would share a root that it has open already
            attributes = self._file["config"].attrs if "config" in self._file else {}
            config = self.config = {name: np.asarray(value).tolist() for name, value in attributes.items()}
            if "commit" not in config:
                raise ValueError("an HDF5 file that cidstore did not make: it has no /config with a commit")
            if config.get("format_version") != FORMAT_VERSION:
                raise ValueError("/config: this reader knows no format_version %s" % config.get("format_version"))
            if sys.platform == "linux":
                with contextlib.suppress(OSError):  # not every file system has byte locks
                    pin = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, PIN + config["commit"], 1, 0)
                    fcntl.fcntl(self._raw, F_OFD_SETLK, pin)
            at = attributes["directory"] if "directory" in attributes else self._file["directory"]
            self._directory = np.concatenate([part[:] for part in (at.values() if isinstance(at, h5py.Group) else [at])])
            self._buckets, self._set_states = self._file["buckets/state"][:], self._file["values/state"][:]
            self._crc = lambda *seeds_and_rows: crc32c(config["file_uuid"], *seeds_and_rows)
            self._codes, self._operations = map(np.concatenate, zip(*[self._epoch(*e[:3]) for e in config["epochs"]]))
        except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            damage = ValueError("%s: %s" % (path, error))
        self._raw.seek(0)
        if self._raw.read(len(head)) != head:  # a writer has committed meanwhile: what was read may be of two roots
            self.close()
            self.__init__(path)
        elif damage:
            self.close()
            raise damage

    def _epoch(self, epoch, first, end):
        """Opcodes and operations, n × 4 words, of the whole frames of an epoch, those that the tree lacks."""
        config, first, present = self.config, max(first, self.config["last_applied"] + 1), end == PRESENT
        end = max(first, config["wal_first"]) + len(self._file["wal"]) if present else max(first, end)
        sequence = np.arange(first, end, dtype=np.uint64)[::-1]  # backwards: what a watermark covers is read after it
        old, parts = sequence < config["wal_first"], []
        for ring, at in ("wal", sequence[~old]), ("wal_old" if old.any() else "wal", sequence[old]):
            d = self._file[ring]  # to be mapped, for HDF5 may remember what a writer has changed since
            records = np.memmap(self._raw, d.dtype, "r", d.id.get_offset(), d.shape)[at % len(d)]
            parts.append((records, at // len(d) % 4))
        records, laps, sequence = *(np.concatenate(part)[::-1] for part in zip(*parts)), sequence[::-1]
        whole = (records["version_op"] >> 6 == laps) & (records["version_op"] > 0)  # most of the ring is not
        rows = records[whole].view(np.uint8).reshape(-1, 64) * (np.arange(64) // 4 != 1)  # without their checksums
        whole[whole] = records["checksum"][whole] == self._crc(np.full_like(laps[whole], epoch), sequence[whole], rows)
        codes, count = records["version_op"] & 63, int(np.append(whole, False).argmin())
        durable = int(records["watermark"][whole & (codes == TXN_COMMIT)].max(initial=0)) if present else end - 1
        demand(np.array([first + count > durable]), "epoch %d: acknowledged log record" % epoch, [first + count])
        count = np.flatnonzero(codes[:count] == TXN_COMMIT).max(initial=-1) + 1  # what follows is no whole frame
        codes, operations, sequence = codes[:count], words(records[KEY + VALUE][:count]), sequence[:count]
        demand(np.isin(codes, OPCODES), "unknown opcode of log record", sequence)
        keep = siphash(config["hash_seed"], operations[:, :2]) >= config["slice_hash"]  # else a slice has applied them
        keep = (keep | (sequence > config["slice_through"])) & np.isin(codes, [INSERT, DELETE, DELETE_VALUE])
        return codes[keep], operations[keep]

    def _pairs(self, *range_and_key):
        try:
            return self._decoded(*range_and_key)
        except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError("%s: %s" % (self._raw.name, error)) from error

    def _decoded(self, first, last, key=None):
        """The pairs, n × 4 words, of buckets first to last - 1; of one key alone if it is given."""
        states, parts = self._buckets[first:last], []
        for name, tail, count in ("entries", "", states["sorted_count"]), ("tail", "tail_", states["tail_count"]):
            bucket, slot = np.nonzero(np.arange(count.max()) < count[:, None])
            entries = self._file["buckets"][name][first:last, :count.max()][bucket, slot]
            number = np.maximum(entries["more"], 1) - 1
            more = words(self._file["buckets"][tail + "more"][first:last, :number.max(initial=0) + 1][bucket, number])
            rows = np.hstack([entries.view(np.uint8).reshape(-1, 48)[:, :44], more.astype("<u8").view(np.uint8)])
            crcs = [self._crc(first + bucket, states[tail + "commit"][bucket], data) for data in (rows, rows[:, :44])]
            demand(entries["crc32c"] == np.where(entries["more"], *crcs), "/buckets/%s: row" % name, first + bucket)
            parts.append((words(entries[KEY]), np.hstack([words(entries[VALUE]), more]), entries))
        keys, values, entries = map(np.concatenate, zip(*parts))
        keep = np.lexsort(keys.T)  # stable: a tail's entry stands behind the row's, which it supersedes
        keep = keep[np.append((keys[keep[1:]] != keys[keep[:-1]]).any(1), True)[:len(keep)]]
        keep = keep[(entries["flags"][keep] & DELETED == 0) & (key is None or (keys[keep] == key).all(1))]
        keys, values, count = keys[keep], values[keep], entries["value_count"][keep]
        inline = [np.hstack([keys[count > i], values[count > i, 2 * i:2 * i + 2]]) for i in range(4)]
        return np.concatenate([*inline, *self._sets(values[count == 0, 1], keys[count == 0])])

    def _sets(self, ids, owners):
        """The pairs of spilled sets, in parts."""
        states = self._set_states[ids]
        demand((words(states[OWNER]) == owners).all(1), "/values/state: row", ids)
        for size, depth in set(zip(states["class"].tolist(), states["depth"].tolist())):
            of = (states["class"] == size) & (states["depth"] == depth)
            name = "nodes" if size == TREE else "class_%d" % size
            nodes, keys, dataset = states[of], owners[of], self._file["values"][name].id
            for level in range(depth + 1):
                rows = b"".join(dataset.read_direct_chunk((row, 0))[1] for row in nodes["row"].tolist())
                rows = np.frombuffer(rows, np.uint8).reshape(len(nodes), -1)
                crc = self._crc(nodes["row"], nodes["commit"], rows)
                demand(nodes["crc32c"] == crc, "/values/%s: row" % name, nodes["row"])
                if level < depth:  # they hold child records, not values
                    used = rows.view(CHILD)["address"] > 0
                    nodes, keys = rows.view(CHILD)[used], np.repeat(keys, used.sum(1), 0)
            values = rows.view("<u8").reshape(len(nodes), -1, 2)  # live ones first, then tombstoned ones
            node, slot = np.nonzero(np.arange(nodes["count"].max()) < nodes["count"][:, None])
            yield np.hstack([keys[node], values[node, slot]])

    def get(self, key):
        """All values of key, ascending ints, [] when absent. key: int, uuid.UUID, or str, which stands for its UUIDv5."""
        if isinstance(key, str):
            key = uuid.uuid5(uuid.NAMESPACE_DNS, key)
        elif not isinstance(key, uuid.UUID):
            key = uuid.UUID(int=operator.index(key))
        key = np.frombuffer(key.bytes, ">u8").astype(np.uint64)
        place, parts = siphash(self.config["hash_seed"], key[None]), []
        bucket = int(self._directory[int(place[0]) >> 64 - self.config["global_depth"]]["bucket_id"])
        while (bucket or not parts) and len(parts) < len(self._buckets):  # the row, then its overflow rows
            state = self._buckets[[bucket]]
            good = (state["prefix"] ^ place) >> np.uint64(64) - state["local_depth"] == 0
            demand(good, "%s: /buckets/state: row" % self._raw.name, [bucket])
            parts.append(self._pairs(bucket, bucket + 1, key))
            bucket = int(state["next"][0])
        own = (self._operations[:, :2] == key).all(1)
        pairs = replay(np.concatenate(parts), self._codes[own], self._operations[own])
        return sorted(high << 64 | low for high, low in pairs[:, 2:].tolist())

    def _all_pairs(self):
        pairs = self._pairs(0, len(self._buckets))
        touched = np.isin(pairs[:, 1], self._operations[:, 1])  # by the log, perhaps
        return np.concatenate([pairs[~touched], replay(pairs[touched], self._codes, self._operations)])

    def pairs(self):
        """Iterates every (key, value) once, ints, in no promised order."""
        return ((a << 64 | b, c << 64 | d) for a, b, c, d in struct.iter_unpack("=4Q", self._all_pairs().tobytes()))

    def to_dataframe(self):
        """Every pair as a pandas.DataFrame of uint64 columns key_high, key_low, value_high, value_low."""
        import pandas
        return pandas.DataFrame(self._all_pairs(), columns=KEY + VALUE)

    def close(self, *_):
        """Gives up the pin and the file; again is no error."""
        for file in filter(None, [self._file, self._raw]):
            file.close()

    __exit__ = close


open = Store

if __name__ == "__main__":  # prints every pair, key TAB value, 32 hex digits each, in no promised order
    try:
        with Store(sys.argv[1] if len(sys.argv) == 2 else sys.exit("usage: cidstore.py FILE")) as store:
            sys.stdout.writelines("%032x\t%032x\n" % pair for pair in store.pairs())
    except (OSError, ValueError) as error:
        sys.exit("cidstore.py: %s" % error)
