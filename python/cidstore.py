#!/usr/bin/env python3
"""Reads CIDStore files with h5py and numpy alone; docs/FORMAT.md explains every name here.

    with cidstore.open("words.cidstore") as store:
        store.get("hello")        # every value of the key, ascending ints
        for key, value in store.pairs(): ...

A store is the file as it was when it was opened: its tree, and over that the operations that only its log has. All is
held against its checksums; a pin (Linux) keeps a writer from reusing what is read. Threads may share a store. A child
process that has inherited one (fork), or was sent one (pickle), opens the file again when it first uses it, and sees it as
it is then; a store that was closed before that stays closed."""
import contextlib
import io
import itertools
import operator
import os
import re
import struct
import sys
import threading
import uuid
import weakref
if sys.platform != "win32":
    import fcntl

import h5py
import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured as words

FORMAT_VERSION = 2
PIN, F_OFD_SETLK = 1 << 61, 37  # a reader of commit n shares the lock of byte PIN + n
ATTEMPTS = 5000  # to open a file that is being written
INSERT, DELETE, TXN_COMMIT, DELETE_VALUE = 1, 2, 4, 6
OPCODES = [INSERT, DELETE, TXN_COMMIT, DELETE_VALUE, 9, 10, 11, 20, 21, 22, 23, 24]  # the others change no pair
PRESENT, TREE, DELETED = (1 << 64) - 1, 65535, 1  # an epoch's end; a set's class; an entry's flag
RUN, STEP = 1 << 32, 64  # what stands for a group in the checksums of runs; groups that are read at once
KEY, VALUE, OWNER = ([name + "_high", name + "_low"] for name in ("key", "value", "owner"))
CHILD = np.dtype([(name, "<u8") for name in ("separator_high", "separator_low", "row", "address", "count",
                                             "tombstone_count", "commit")] + [("crc32c", "<u4"), ("reserved", "<u4")])
CRC_TABLE = np.arange(1 << 16, dtype=np.uint32)  # of two bytes at once
for _ in range(16):
    CRC_TABLE = (CRC_TABLE >> np.uint32(1)) ^ (CRC_TABLE & np.uint32(1)) * np.uint32(0x82F63B78)


def extended(state, rows):
    """The state of a CRC32C after each row, an even number of bytes."""
    for pair in np.ascontiguousarray(rows.view("<u2").T):
        state = CRC_TABLE[(state ^ pair) & np.uint32(0xFFFF)] ^ (state >> np.uint32(16))
    return state


def seeded(file_uuid, numbers, commits):
    """The state of a CRC32C after file_uuid, a number and a commit, for each pair of those."""
    start = extended(np.array([0xFFFFFFFF], np.uint32), np.array([file_uuid], np.uint8))
    seeds = np.stack([numbers.astype("<u8"), commits.astype("<u8")], 1).view(np.uint8)
    return extended(np.repeat(start, len(seeds)), seeds)


def crc32c(file_uuid, numbers, commits, rows):
    """CRC32C of each row, an even number of bytes, seeded with file_uuid, a number and a commit."""
    return extended(seeded(file_uuid, numbers, commits), np.ascontiguousarray(rows)) ^ np.uint32(0xFFFFFFFF)


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


def siphash_one(seed, high, low):
    """siphash of one key, for which arrays are slow."""
    mask = (1 << 64) - 1
    v = [s ^ c for s, c in zip((*seed, *seed), (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573))]
    high, low = (int.from_bytes(word.to_bytes(8, "big"), "little") for word in (high, low))
    for word, end, rounds in (high, 0, 2), (low, 0, 2), (16 << 56, 0, 2), (0, 0xFF, 4):
        v[3] ^= word
        v[2] ^= end
        for a, b, n, m in rounds * ((0, 1, 13, 32), (2, 3, 16, 0), (0, 3, 21, 0), (2, 1, 17, 32)):
            v[a] = v[a] + v[b] & mask
            v[b] = (v[b] << n & mask | v[b] >> 64 - n) ^ v[a]
            v[a] = v[a] << m & mask | v[a] >> 64 - m
        v[0] ^= word
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def newest(keys):
    """Where the last row of each key, n × 2 words, stands."""
    order = np.lexsort(keys.T)  # stable
    return order[np.append((keys[order[1:]] != keys[order[:-1]]).any(1), True)[:len(order)]]


NO_PAIRS = np.zeros((0, 4), np.uint64)


def demand(good, what, numbers):
    """ValueError about the first of these numbers that is not good."""
    for number in np.asarray(numbers)[~good][:1]:
        raise ValueError("%s %d: bad checksum, or not what belongs there" % (what, number))


IDENTIFIER = re.compile(r"(?:(?-i:0x)([0-9a-f]{1,32})|(?:urn:uuid:)?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
                        r"|\{([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}|([0-9a-f]{32}))", re.ASCII | re.IGNORECASE)


def identifier(key):
    """The identifier, an int, that a key means, by the rule of ParseKey in Go. An int or a uuid.UUID is itself. A str is
    what it spells: 32 hex digits, a UUID (in braces or after urn:uuid: too), 0x with up to 32 digits, in either case; any
    other text is a name, and stands for its UUIDv5 in the DNS namespace."""
    if isinstance(key, str):
        spelled = IDENTIFIER.fullmatch(key)
        return int("".join(filter(None, spelled.groups())).replace("-", ""), 16) if spelled else uuid.uuid5(uuid.NAMESPACE_DNS, key).int
    if isinstance(key, uuid.UUID):
        return key.int
    if isinstance(key, (bool, np.bool_)):
        raise TypeError("a key is an int, a uuid.UUID or a str, not a bool")
    number = operator.index(key)
    if not 0 <= number < 1 << 128:
        raise ValueError("key %d, want 0 to 2**128 - 1" % number)
    return number


STORES, HELD = weakref.WeakSet(), []  # of this process; those whose locks a fork under way holds


def _before_fork():  # no thread is in the middle of a read: h5py's own lock would stay taken in the child
    HELD.extend(STORES)
    for store in HELD:
        store._lock.acquire()


def _after_fork():
    while HELD:
        HELD.pop()._lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)


class Store(contextlib.AbstractContextManager):
    """One file, as it was when it was opened. config: the attributes of /config, those of the committed tree.
    ValueError: not a CIDStore file, a newer format, or damaged, found so now or later; or closed. OSError: as from open()."""

    def __init__(self, path):
        self._path, self._lock, self._closed = os.path.abspath(os.fsdecode(path)), threading.RLock(), False
        self._open()
        self._place = self._where(self._raw.fileno())
        STORES.add(self)

    def __reduce__(self):
        if self._closed:
            raise ValueError("%s: the store is closed" % self._path)
        return Store, (self._path,)

    @staticmethod
    def _where(file):
        info = os.stat(file)
        return info.st_dev, info.st_ino

    @contextlib.contextmanager
    def _used(self):
        """Holds the lock. A process that is not the one that opened the file opens it again: it would share its place in
        the file, and its pin, with that one."""
        with self._lock:
            if self._closed:
                raise ValueError("%s: the store is closed" % self._path)
            if self._process != os.getpid():
                if self._where(self._path) != self._place:
                    raise ValueError("%s: another file stands there since the store was opened; open it again" % self._path)
                self._drop()  # this process's copies: locks and pins are the other's too, and stay
                self._open()
            yield

    def _open(self):
        for _ in range(ATTEMPTS):
            if self._opened():
                return
        self.close()
        raise ValueError("%s: a writer has committed during each of %d attempts to open it" % (self._path, ATTEMPTS))

    def _opened(self):
        """Opens the file and reads its root; False: a writer has committed meanwhile, and what was read may be of two roots."""
        path, self._process = self._path, os.getpid()
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
            self._states, self._set_states = self._file["buckets/state"], self._file["values/state"][:]
            self._maps, self._pages, self._skipped = {}, {}, None
            self._capacity = len(self._file["buckets/entries"]) // len(self._states)
            self._runs = [self._run(*record) for record in self._file["runs"].attrs.get("runs", [])]
            self._more = self._file["buckets/more"].dtype
            self._crc = lambda *seeds_and_rows: crc32c(config["file_uuid"], *seeds_and_rows)
            self._codes, self._operations = map(np.concatenate, zip(*[self._epoch(*e[:3]) for e in config["epochs"]]))
        except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            damage = ValueError("%s: %s" % (path, error))
        self._raw.seek(0)
        if self._raw.read(len(head)) != head:
            self._drop()
            return False
        if damage:
            self.close()
            raise damage
        return True

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

    def _named(self, read, *arguments):
        try:
            return read(*arguments)
        except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError("%s: %s" % (self._raw.name, error)) from error

    def _mapped(self, name):
        """A contiguous dataset of a run, in place."""
        if name not in self._maps:
            d = self._file[name]
            self._maps[name] = np.asarray(np.memmap(self._raw, d.dtype, "r", d.id.get_offset(), d.shape))
        return self._maps[name]

    def _page(self, group):
        """The page of a group."""
        if group not in self._pages:
            self._pages[group] = self._states[group]
        return self._pages[group]

    def _run(self, number, low, high, base, *rest):
        """What is needed of a run record: number, lowest and highest hash, base, shift, more rows, index, seed."""
        seed = seeded(self.config["file_uuid"], np.array([RUN]), np.array([int(number)]))
        return tuple(map(int, (number, low, high, base, rest[8], rest[5]))) + (self._mapped("runs/index_%d" % number), seed)

    def _entries(self, what, owners, seeds, entries, more):
        """Keys, values (n × 8 words), entries, all judged. owners and seeds: of each entry; more: its more row, or any."""
        rows, has = entries.view(np.uint8).reshape(-1, 48)[:, :44], entries["more"] > 0
        state, more = extended(seeds, np.ascontiguousarray(rows)), words(more) if len(more) else np.zeros((0, 6), np.uint64)
        state[has] = extended(state[has], np.ascontiguousarray(more[has].astype("<u8")).view(np.uint8))
        good = self._good(entries["crc32c"] == state ^ np.uint32(0xFFFFFFFF), what, owners)
        return (words(entries[KEY])[good], np.hstack([words(entries[VALUE]), more])[good], entries[good]), good

    def _good(self, good, what, numbers):
        """demand, or, where a loop goes on past damage, a note of it and what is good."""
        if self._skipped is None:
            demand(good, what, numbers)
        else:
            self._skipped += sorted({"%s %d: bad checksum, or not what belongs there" % (what, n) for n in np.asarray(numbers)[~good]})
        return good

    def _of_groups(self, first, last):
        """The entries of the rows of groups first to last - 1."""
        pages, size = self._states[first:last], self._capacity
        group, slot = np.nonzero(np.arange(pages["entry_count"].max(initial=0)) < pages["entry_count"][:, None])
        at = group * size + slot
        entries = self._file["buckets/entries"][first * size:last * size][at]
        ends, bits = pages["buckets"]["entry_end"].astype(np.int64), pages["bucket_bits"].astype(np.int64)
        used = np.arange(ends.shape[1]) < 1 << bits[:, None]
        counts = np.where(used, np.diff(ends, axis=1, prepend=0), 0)
        more_ends = pages["buckets"]["more_end"].astype(np.int64)
        firsts = np.hstack([np.zeros((len(pages), 1), np.int64), more_ends[:, :-1]])
        number = np.repeat(firsts.ravel(), counts.ravel()) + np.maximum(entries["more"].astype(np.int64), 1) - 1
        more = self._file["buckets/more"][first * size:last * size] if entries["more"].any() else np.zeros(1, self._more)
        more = more[(group * size + number) * (entries["more"] > 0)]
        seeds = seeded(self.config["file_uuid"], np.arange(first, last), pages["commit"])
        return self._entries("/buckets/entries: group", first + group, seeds[group], entries, more)[0]

    def _of_run(self, run, first, end):
        """The entries of slots first to end - 1 of a run, and their more rows, as they stand."""
        number, mores, index = run[0], run[5], run[6]
        entries = np.array(self._mapped("runs/entries_%d" % number)[int(index["first"][first]):int(index["first"][end])])
        if not mores:
            return entries, np.zeros(len(entries), self._more)
        starts = np.repeat(index["first_more"][first:end].astype(np.int64), np.diff(index["first"][first:end + 1].astype(np.int64)))
        at = (starts + np.maximum(entries["more"].astype(np.int64), 1) - 1) * (entries["more"] > 0)
        return entries, self._mapped("runs/more_%d" % number)[at]

    def _groups_of(self, keys):
        """Hashes of keys, and the groups that they belong to."""
        hashes = siphash(self.config["hash_seed"], keys)
        depth = self.config["global_depth"]
        return hashes, self._directory["bucket_id"][(hashes >> np.uint64(64 - depth)).astype(np.int64) if depth else np.zeros(len(keys), np.int64)]

    def _waiting(self):
        """What runs hold in place of rows: for each key the newest entry, and the group that it belongs to."""
        commits, parts, self._doubts = self._commits(), [], []
        for run in self._runs:
            entries, more = self._of_run(run, 0, len(run[6]) - 1)
            seeds, numbers = np.repeat(run[7], len(entries)), np.full(len(entries), run[0])
            (keys, values, entries), good = self._entries("/runs: run", numbers, seeds, entries, more)
            if not good.all():  # of keys in the same slots older entries may not be the last word
                slots = np.searchsorted(run[6]["first"], np.flatnonzero(~good), "right") - 1
                self._doubts.append((run, slots.astype(np.uint64), commits))
                parts = [[column[self._certain(part[0])] for column in part] for part in parts]
            hashes, groups = self._groups_of(keys)
            counts = (hashes >= np.uint64(run[1])) & (hashes <= np.uint64(run[2])) & (commits[groups] < run[0])
            parts.append([part[counts] for part in (keys, values, entries, groups)])
        keys, values, entries, groups = map(np.concatenate, zip(*parts))
        return [part[newest(keys)] for part in (keys, values, entries, groups)]

    def _certain(self, keys):
        """Which keys have no later entry in a damaged slot of a run, perhaps."""
        certain = np.ones(len(keys), bool)
        if self._doubts:
            hashes, groups = self._groups_of(keys)
        for run, slots, commits in self._doubts:
            slot = hashes * np.uint64(0) if run[4] > 63 else hashes - np.uint64(run[3]) >> np.uint64(run[4])
            within = (hashes >= np.uint64(run[1])) & (hashes <= np.uint64(run[2])) & (commits[groups] < run[0])
            certain &= ~(within & np.isin(slot, slots))
        return certain

    def _commits(self):
        parts = (self._parts(lambda at, end: self._states[at:end]["commit"], at, min(at + STEP, len(self._states)))
                 for at in range(0, len(self._states), STEP))
        return np.concatenate([part if part is not None else np.array([PRESENT], np.uint64) for part in itertools.chain(*parts)])

    def _parts(self, read, first, last):
        """read(first, last), or in pieces where a piece fails and a loop goes on past damage; None: one that failed."""
        try:
            return [read(first, last)]
        except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            if self._skipped is None:
                raise
            if last - first == 1:
                self._skipped.append("group %d: %s" % (first, error))
                return [None]
        middle = (first + last) // 2
        return self._parts(read, first, middle) + self._parts(read, middle, last)

    def _tree(self):
        """All pairs of the committed tree, n × 4 words, in parts."""
        self._doubts = []
        waiting = self._waiting() if self._runs else None
        for first in range(0, len(self._states), STEP):
            last = min(first + STEP, len(self._states))
            read = [part for part in self._parts(self._of_groups, first, last) if part]
            rows = [np.concatenate(column) for column in zip(*read)] if read else []
            if self._doubts and rows:
                certain = self._certain(rows[0])
                rows = [column[certain] for column in rows]
            if waiting:
                own = (waiting[3] >= first) & (waiting[3] < last)
                later = [part[own] for part in waiting[:3]]
                rows = rows or [column[:0] for column in later]
                alone = ~np.isin(rows[0][:, 1], later[0][:, 1])
                yield from self._values(*(part[alone] for part in rows))
                rows = [np.concatenate([a[~alone], b]) for a, b in zip(rows, later)]
                rows = [part[newest(rows[0])] for part in rows]
            if rows:
                yield from self._values(*rows)

    def _values(self, keys, values, entries):
        """The pairs of entries, in parts."""
        keep = entries["flags"] & DELETED == 0
        keys, values, count = keys[keep], values[keep], entries["value_count"][keep]
        for i in range(int(count.max(initial=0))):
            yield np.hstack([keys[count > i], values[count > i, 2 * i:2 * i + 2]])
        yield from self._sets(values[count == 0, 1], keys[count == 0])

    def _found(self, key):
        """The pairs of one key in the committed tree. All of its bucket, and of its slots of runs, is judged."""
        place, depth = siphash_one(self.config["hash_seed"], *map(int, key)), self.config["global_depth"]
        group = int(self._directory["bucket_id"][place >> 64 - depth])
        page = self._page(group)
        demand(np.array([(place ^ int(page["prefix"])) >> 64 - int(page["local_depth"]) == 0]), "/buckets/state: group", [group])
        parts = [(self._of_bucket(group, page, place), seeded(self.config["file_uuid"], np.array([group]), page["commit"][None]))]
        for run in self._runs:
            if run[0] > page["commit"] and run[1] <= place <= run[2]:
                slot = place - run[3] >> run[4]
                parts.append((self._of_run(run, slot, slot + 1), run[7]))
        entries, more = (np.concatenate(part) for part in zip(*(found for found, _ in parts)))
        seeds = np.concatenate([np.repeat(seed, len(found[0])) for found, seed in parts])
        found, _ = self._entries("/buckets/entries or /runs: group", np.full(len(entries), group), seeds, entries, more)
        own = np.flatnonzero((found[0] == key).all(1))[-1:]  # the newest
        return self._values(*(part[own] for part in found))

    def _of_bucket(self, group, page, place):
        """The entries of the bucket of a hash, and their more rows, as they stand."""
        bucket = (place << int(page["local_depth"]) & (1 << 64) - 1) >> 64 - int(page["bucket_bits"])
        ends = page["buckets"][max(bucket - 1, 0):bucket + 1].tolist()
        (start, more_start), (end, more_end) = ends[0][:2] if bucket else (0, 0), ends[-1][:2]
        first = group * self._capacity
        entries = self._file["buckets/entries"][first + start:first + end]
        at, more = np.maximum(entries["more"].astype(np.int64), 1) - 1, np.zeros(len(entries), self._more)
        if more_end > more_start:
            more = self._file["buckets/more"][first + more_start:first + more_end][at * (entries["more"] > 0)]
        return entries, more

    def _sets(self, ids, owners):
        """The pairs of spilled sets, in parts."""
        states = self._set_states[ids]
        good = self._good((words(states[OWNER]) == owners).all(1), "/values/state: row", ids)
        states, owners = states[good], owners[good]
        for size, depth in set(zip(states["class"].tolist(), states["depth"].tolist())):
            of = (states["class"] == size) & (states["depth"] == depth)
            name = "nodes" if size == TREE else "class_%d" % size
            nodes, keys, dataset = states[of], owners[of], self._file["values"][name].id
            for level in range(depth + 1):
                if not len(nodes):  # all of them are damaged
                    break
                rows = b"".join(dataset.read_direct_chunk((row, 0))[1] for row in nodes["row"].tolist())
                rows = np.frombuffer(rows, np.uint8).reshape(len(nodes), -1)
                crc = self._crc(nodes["row"], nodes["commit"], rows)
                good = self._good(nodes["crc32c"] == crc, "/values/%s: row" % name, nodes["row"])
                nodes, keys, rows = nodes[good], keys[good], rows[good]
                if level < depth:  # they hold child records, not values
                    used = rows.view(CHILD)["address"] > 0
                    nodes, keys = rows.view(CHILD)[used], np.repeat(keys, used.sum(1), 0)
            if not len(nodes):
                continue
            values = rows.view("<u8").reshape(len(nodes), -1, 2)  # live ones first, then tombstoned ones
            node, slot = np.nonzero(np.arange(nodes["count"].max(initial=0)) < nodes["count"][:, None])
            yield np.hstack([keys[node], values[node, slot]])

    def get(self, key):
        """All values of key, ascending ints, [] when absent. key: see identifier."""
        key = np.frombuffer(identifier(key).to_bytes(16, "big"), ">u8").astype(np.uint64)
        with self._used():
            return self._get(key)

    def _get(self, key):
        parts = self._named(lambda: list(self._found(key)))
        own = (self._operations[:, :2] == key).all(1)
        pairs = replay(np.concatenate([NO_PAIRS, *parts]), self._codes[own], self._operations[own])
        return sorted(high << 64 | low for high, low in pairs[:, 2:].tolist())

    def _all_pairs(self):
        with self._used():
            return self._read_all()

    def _read_all(self):
        """Every pair that can be read, and what cannot."""
        self._skipped = []
        try:
            pairs = self._named(lambda: np.concatenate([NO_PAIRS, *self._tree()]))
            skipped = list(dict.fromkeys(self._skipped))
        finally:
            self._skipped = None
        touched = np.isin(pairs[:, 1], self._operations[:, 1])  # by the log, perhaps
        return np.concatenate([pairs[~touched], replay(pairs[touched], self._codes, self._operations)]), skipped

    def _complain(self, skipped):
        if skipped:
            raise ValueError("%s: %d places cannot be read, the first: %s" % (self._raw.name, len(skipped), skipped[0]))

    def pairs(self, skip_bad=False):
        """Iterates every (key, value) once, ints, in no promised order. What cannot be read is left out, and is a
        ValueError after the last pair, unless skip_bad."""
        pairs, skipped = self._all_pairs()
        yield from ((a << 64 | b, c << 64 | d) for a, b, c, d in struct.iter_unpack("=4Q", pairs.tobytes()))
        if not skip_bad:
            self._complain(skipped)

    def to_dataframe(self, skip_bad=False):
        """Every pair as a pandas.DataFrame of uint64 columns key_high, key_low, value_high, value_low. ValueError if
        some cannot be read; skip_bad leaves them out."""
        import pandas
        pairs, skipped = self._all_pairs()
        if not skip_bad:
            self._complain(skipped)
        return pandas.DataFrame(pairs, columns=KEY + VALUE)

    def close(self, *_):
        """Gives up the pin and the file; again is no error."""
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self):
        self._maps, self._runs = {}, []  # a mapping holds the file open
        for file in filter(None, [self._file, self._raw]):
            file.close()

    __exit__ = close

    def __del__(self):
        if getattr(self, "_raw", None):  # what a worker process was sent has nobody else to close it
            self.close()


open = Store

if __name__ == "__main__":  # prints every pair, key TAB value, 32 hex digits each, in no promised order
    try:
        with Store(sys.argv[1] if len(sys.argv) == 2 else sys.exit("usage: cidstore.py FILE")) as store:
            sys.stdout.writelines("%032x\t%032x\n" % pair for pair in store.pairs())
    except (OSError, ValueError) as error:
        sys.exit("cidstore.py: %s" % error)
