#!/usr/bin/env python3
"""Reads CIDStore files with only h5py and numpy; docs/FORMAT.md explains every name here.

    with cidstore.open("words.cidstore") as store:
        store.get("hello")        # every value of the key, ascending ints
        for key, value in store.pairs(): ...

A store is the file as it was when it was opened: its tree, and over that the operations that only its log has. All is
compared with its checksums; a pin (Linux) keeps a writer from reusing what is read. Threads may share a store. A child
process that has inherited one (fork), or was sent one (pickle), opens the file again when it first uses it, and sees it as
it is then; a store that was closed before that stays closed."""
import contextlib
import functools
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

FORMAT_VERSION = 2
PIN, F_OFD_SETLK = 1 << 61, 37  # a reader of commit n shares the lock of byte PIN + n
ATTEMPTS = 5000  # to open a file that is being written
INSERT, DELETE, TXN_COMMIT, DELETE_VALUE, TXN_TIME = 1, 2, 4, 6, 8
OPCODES = [INSERT, DELETE, TXN_COMMIT, DELETE_VALUE, TXN_TIME, 9, 10, 11, 20, 21, 22, 23, 24]  # the others change no pair
PRESENT, TREE, DELETED = (1 << 64) - 1, 65535, 1  # an epoch's end; a set's class; an entry's flag
RUN, STEP = 1 << 32, 64  # what stands for a group in the checksums of runs; groups that are read at once
SETS, NEAR, SIPS = 64, 512, 1 << 13  # set states of a chunk; bytes between extents that are read together; keys hashed at a time
COLUMNS = ["key_high", "key_low", "value_high", "value_low"]
ENTRY = np.dtype([(name, "<u8") for name in COLUMNS] + [("state_mask", "u1"), ("flags", "u1"), ("more", "<u2")]
                 + [(name, "<u4") for name in ("value_count", "relation", "crc32c")])
CHILD = np.dtype([(name, "<u8") for name in ("separator_high", "separator_low", "row", "address", "count",
                                             "tombstone_count", "commit")] + [("crc32c", "<u4"), ("reserved", "<u4")])
NO_ROWS, NO_PAIRS = np.zeros((0, 6), "<u8"), np.zeros((0, 4), np.uint64)
HEAD, SLOT, PAYLOAD = 12288, 4096, 192  # bytes of superblock and commit slots; of a slot; where its store record begins
RECORD = {"format_version": (0, "<u4"), "last_applied": (8, "<u8"), "slice_through": (16, "<u8"), "slice_hash": (24, "<u8"),
          "num_keys": (40, "<u8"), "num_values": (48, "<u8"), "num_buckets": (56, "<u8"), "num_sets": (64, "<u8"),
          "wal_first": (112, "<u8"), "global_depth": (144, "<u4"), "split_threshold": (148, "<u4"),
          "promotion_threshold": (152, "<u4"), "wal_block": (156, "<u4"), "hmac_salt": (176, "u1"), "hash_seed": (208, "<u8"),
          "epochs": (248, None), "num_groups": (704, "<u8"), "file_uuid": (16 - PAYLOAD, "u1")}
RUNS_CRC = PAYLOAD + 720

# A CRC32C is linear: the state after a row is the sum (XOR) of what each of its bytes, followed by zeros, leaves.
# AFTER[n, b]: what byte b leaves, n bytes before the end. A state before the row is added to its first four bytes.
LONGEST, PIECE, BLOCK = 48, 32, 1 << 16  # bytes: of a row that is summed at once; of a piece of a longer one; summed at a time
AFTER = np.zeros((LONGEST, 256), "<u4")
AFTER[0] = np.arange(256)
for _ in range(8):
    AFTER[0] = (AFTER[0] >> np.uint32(1)) ^ (AFTER[0] & np.uint32(1)) * np.uint32(0x82F63B78)
for _ in range(1, LONGEST):
    AFTER[_] = AFTER[0][AFTER[_ - 1] & np.uint32(0xFF)] ^ AFTER[_ - 1] >> np.uint32(8)
TABLES = np.arange(LONGEST)[::-1] << 8  # where the table of each byte begins, the last byte's first


def summed(rows, tables=AFTER):
    """The states of a CRC32C after rows, n × bytes, that begin with state 0."""
    return np.bitwise_xor.reduce(tables.ravel().take(rows + TABLES[-rows.shape[1]:], mode="clip"), 1)


@functools.lru_cache(None)
def shifts(level):
    """The tables with which summed finds what a state, as four bytes, is after PIECE << level zeros."""
    return shifted(shifts(level - 1).ravel(), level - 1).reshape(4, 256) if level else AFTER[PIECE - 4:PIECE]


def shifted(states, level):
    return summed(np.ascontiguousarray(states).view(np.uint8).reshape(-1, 4), shifts(level))


def extended(states, rows):
    """The states of a CRC32C after rows, n × bytes, that begin with states."""
    length, result = rows.shape[1], np.empty(len(rows), "<u4")
    front, step = -length % PIECE if length > LONGEST else 0, max(BLOCK // length, 1)  # zeros in front add nothing
    for at in range(0, len(rows), step):
        block = np.zeros((len(rows[at:at + step]), front + length), np.uint8)
        block[:, front:] = rows[at:at + step]
        block[:, front:front + 4] ^= states[at:at + step].astype("<u4").view(np.uint8).reshape(-1, 4)
        if length <= LONGEST:
            result[at:at + step] = summed(block)
            continue
        parts, level = summed(block.reshape(-1, PIECE)).reshape(len(block), -1), 0
        while parts.shape[1] > 1:  # neighbours are joined, and those again
            if parts.shape[1] & 1:
                parts = np.hstack([np.zeros((len(block), 1), "<u4"), parts])
            parts, level = shifted(parts[:, ::2], level).reshape(len(block), -1) ^ parts[:, 1::2], level + 1
        result[at:at + step] = parts[:, 0]
    return result


def seeded(file_uuid, numbers, commits):
    """The state of a CRC32C after file_uuid, a number and a commit, for each pair of those."""
    start = extended(np.array([0xFFFFFFFF], np.uint32), np.array([file_uuid], np.uint8))
    seeds = np.stack([numbers.astype("<u8"), commits.astype("<u8")], 1).view(np.uint8)
    return extended(np.repeat(start, len(seeds)), seeds)


def crc32c(file_uuid, numbers, commits, rows):
    """CRC32C of each row, at least 4 bytes, seeded with file_uuid, a number and a commit."""
    return ~extended(seeded(file_uuid, numbers, commits), rows)


def siphash(seed, keys):
    """SipHash-2-4 of keys, n × 2 words, each as 16 bytes big-endian."""
    result = np.empty(len(keys), np.uint64)
    for at in range(0, len(keys), SIPS):
        block = keys[at:at + SIPS]
        v = np.array([0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573], np.uint64)
        v = list(np.repeat((v ^ np.array([*seed, *seed], np.uint64))[:, None], len(block), 1))
        high, low = block.byteswap().T
        for word, end, rounds in (high, 0, 2), (low, 0, 2), (16 << 56, 0, 2), (0, 0xFF, 4):
            v[3] ^= np.uint64(word)
            v[2] ^= np.uint64(end)
            for a, b, n, m in rounds * ((0, 1, 13, 32), (2, 3, 16, 0), (0, 3, 21, 0), (2, 1, 17, 32)):
                v[a] += v[b]
                v[b] = v[b] << np.uint64(n) | v[b] >> np.uint64(64 - n)
                v[b] ^= v[a]
                if m:
                    v[a] = v[a] << np.uint64(m) | v[a] >> np.uint64(m)
            v[0] ^= np.uint64(word)
        result[at:at + SIPS] = v[0] ^ v[1] ^ v[2] ^ v[3]
    return result


def replay(pairs, codes, operations):
    """What is left of pairs, n × 4 words, after operations, n × 4 words, were applied in their order."""
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


def newest(keys, hashes):
    """The index of the last row of each key, n × 2 words."""
    order = np.argsort(hashes, kind="stable")  # fast: they are sorted runs, one after another
    ordered, hashes = keys[order], hashes[order]
    same = (ordered[1:] == ordered[:-1]).all(1)
    if not np.array_equal(same, hashes[1:] == hashes[:-1]):  # two keys have one hash
        order = np.lexsort(keys.T)  # stable
        same = (keys[order[1:]] == keys[order[:-1]]).all(1)
    return order[np.append(~same, True)[:len(order)]]


def copies(rows):
    """Which of rows, n × words that begin with a key, have the key of an earlier row, and which have a key that occurs twice. A
    row that is copied over another of its group or run is sound, and so is the sum of both: this alone shows it."""
    mixed = rows[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ rows[:, 1]
    later = np.zeros(len(rows), bool)
    ordered = np.sort(mixed)
    if not (ordered[1:] == ordered[:-1]).any():
        return later, later
    order = np.argsort(mixed, kind="stable")
    later[order[1:]] = (rows[order[1:], :2] == rows[order[:-1], :2]).all(1)
    return later, np.isin(mixed, mixed[later])


def among(others):
    """A test of which rows of words are among others. A few that are not pass it too."""
    bits = min(max((8 * len(others)).bit_length(), 12), 24)
    marks = np.zeros(1 << bits, bool)

    def place(rows):
        mixed = np.zeros(len(rows), np.uint64)
        for column in rows.T:
            mixed ^= column
            mixed *= np.uint64(0x9E3779B97F4A7C15)
        return (mixed >> np.uint64(64 - bits)).astype(np.int64)
    marks[place(others)] = True
    return lambda rows: marks[place(rows)]


def chosen(rows, more, which):
    """Some of rows, chosen by a mask or by numbers, and the more rows of those that have one. more: the more rows of all."""
    if not len(more):
        return rows[which], more
    has = rows.view(ENTRY)[:, 0]["more"] > 0
    return rows[which], more[(np.cumsum(has) - 1)[which][has[which]]]


def demand(good, what, numbers):
    """Raises ValueError for the first of these numbers that is not good."""
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
        """Holds the lock. A process other than the one that opened the file opens it again; otherwise both would share a
        place in the file, and a pin."""
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
        """Opens the file and reads its root. False: a writer has committed during that, and what was read may be of two roots."""
        path, self._process = self._path, os.getpid()
        self._file, self._raw, damage = None, io.FileIO(path), None
        if sys.platform != "win32":
            fcntl.flock(self._raw, fcntl.LOCK_SH | fcntl.LOCK_NB)  # who truncates the file has it alone
        head = self._raw.read(HEAD)  # superblock and commit slots: no commit leaves them as they were
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
            self._compare(head.ljust(HEAD, b"\0"), attributes)
            at = attributes["directory"] if "directory" in attributes else self._file["directory"]
            self._directory = np.concatenate([part[:] for part in (at.values() if isinstance(at, h5py.Group) else [at])])
            self._states, self._sets = self._file["buckets/state"], self._file["values/state"]
            entries, more = self._file["buckets/entries"], self._file["buckets/more"]
            if (entries.dtype, more.dtype.itemsize, self._sets.dtype.itemsize) != (ENTRY, 48, 72):
                raise ValueError("/buckets/entries, /buckets/more, /values/state: elements of another form")
            if self._file["wal"].dtype.names != ("records", "reserved"):
                raise ValueError("/wal: its elements are no blocks of log records")
            self._maps, self._pages, self._rows, self._set_states, self._skipped = {}, {}, {}, None, None
            self._capacity, self._chunk = len(entries) // len(self._states), entries.chunks[0]
            self._size = os.fstat(self._raw.fileno()).st_size  # of what the root reaches nothing lies after it
            self._runs = [self._run(*record) for record in self._file["runs"].attrs.get("runs", [])]
            self._codes, self._operations = map(np.concatenate, zip(*[self._epoch(*e[:3]) for e in config["epochs"]]))
            self._by_key = None  # the operations in order of key_low, and those
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

    def _compare(self, head, attributes):
        """Compares the attributes with the record of this root in its commit slot. If neither slot is good, as in a file that
        h5repack has written, there is nothing to compare them with."""
        slots, start = np.frombuffer(head, np.uint8, 2 * SLOT, SLOT).reshape(2, SLOT), np.full(2, 0xFFFFFFFF, "<u4")
        sums = ~extended(start, slots[:, :-4])
        good = [s.tobytes() for s in slots[slots[:, -4:].copy().view("<u4")[:, 0] == sums] if s[:8].tobytes() == b"CIDSLOT1"]
        own = [slot for slot in good if slot[56:104] == head[:48]]
        if len(good) == 2 and not own:
            raise ValueError("superblock: changed by another program: it names a root that neither commit slot names")
        if not own:
            return
        for name, (offset, of) in RECORD.items():
            value = np.asarray(attributes[name])
            value = (value if value.dtype.names else value.astype(of)).tobytes()
            if not any(slot[PAYLOAD + offset:].startswith(value) for slot in own):
                raise ValueError("/config: changed by another program: %s is not that of the commit slot" % name)
        runs = np.asarray(self._file["runs"].attrs.get("runs", [])).view(np.uint8).reshape(1, -1)
        start = extended(start[:1], np.array([self.config["file_uuid"]], np.uint8))
        crc = (~extended(start, runs)).tobytes() if runs.size else bytes(4)
        if not any(slot[RUNS_CRC:].startswith(crc) for slot in own):
            raise ValueError("/runs: changed by another program: its runs are not those of the commit slot")

    def _epoch(self, epoch, first, end):
        """Opcodes and operations, n × 4 words, of the complete frames of an epoch; only those that the tree lacks."""
        config, first, present = self.config, max(first, self.config["last_applied"] + 1), end == PRESENT
        each = self._file["wal"].dtype["records"].shape[0]  # records of a block
        end = max(first, config["wal_first"]) + len(self._file["wal"]) * each if present else max(first, end)
        if end <= first:  # most of them are of no use any more
            return np.zeros(0, np.uint8), NO_PAIRS
        sequence = np.arange(first, end, dtype=np.uint64)[::-1]  # backwards: what a watermark covers is read after it
        old, parts = sequence < config["wal_first"], []
        for ring, at in ("wal", sequence[~old]), ("wal_old" if old.any() else "wal", sequence[old]):
            d = self._file[ring]  # to be mapped, for HDF5 may remember what a writer has changed since
            blocks = np.memmap(self._raw, d.dtype, "r", d.id.get_offset(), d.shape)
            block, nth = np.divmod(at % (len(d) * each), each)
            ends = blocks["reserved"][block[nth == each - 1]]  # they count to the last record of a block
            parts.append((blocks["records"][block, nth], at // (len(d) * each) % 4, ends))
        records, laps, ends, sequence = *(np.concatenate(part)[::-1] for part in zip(*parts)), sequence[::-1]
        whole = (records["version_op"] >> 6 == laps) & (records["version_op"] > 0)  # most of the ring is not
        rows = records[whole].view(np.uint8).reshape(-1, 40) * (np.arange(40) // 4 != 1)  # without their checksums
        state = extended(seeded(config["file_uuid"], np.full(len(rows), epoch, np.uint64), sequence[whole]), rows)
        last = sequence % each == each - 1
        state[last[whole]] = extended(state[last[whole]], ends[whole[last]])
        whole[whole] = records["checksum"][whole] == ~state
        codes, count = records["version_op"] & 63, int(np.append(whole, False).argmin())
        durable = int(records["value_high"][whole & (codes == TXN_TIME)].max(initial=0)) if present else end - 1
        demand(np.array([first + count > durable]), "epoch %d: acknowledged log record" % epoch, [first + count])
        count = np.flatnonzero(codes[:count] == TXN_COMMIT).max(initial=-1) + 1  # what follows is no whole frame
        codes, sequence = codes[:count], sequence[:count]
        operations = np.ascontiguousarray(records[:count]).view("<u8").reshape(-1, 5)[:, 1:].astype(np.uint64)
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
            self._pages[group] = self._states[group:group + 1]
        return self._pages[group]

    def _run(self, number, low, high, base, *rest):
        """What is needed from a run record: number, lowest and highest hash, base, shift, more rows, index, seed."""
        seed = seeded(self.config["file_uuid"], np.array([RUN]), np.array([int(number)]))
        return tuple(map(int, (number, low, high, base, rest[8], rest[5]))) + (self._mapped("runs/index_%d" % number), seed)

    @staticmethod
    def _sound(seeds, rows, more):
        """Which entries are sound: rows, n × 6 words, and the more rows of those that have one. seeds: the state of a
        CRC32C before each."""
        entries = rows.view(ENTRY)[:, 0]
        has, state = entries["more"] > 0, extended(seeds, rows.view(np.uint8)[:, :44])
        state[has] = extended(state[has], more.view(np.uint8))
        return (entries["crc32c"] == ~state) & (entries["value_count"] <= np.where(has, 4, 1))

    def _good(self, good, what, numbers):
        """demand; but in a loop that goes on past damage, it records the damage and returns what is good."""
        if self._skipped is None:
            demand(good, what, numbers)
        else:
            self._skipped += sorted({"%s %d: bad checksum, or not what belongs there" % (what, n) for n in np.asarray(numbers)[~good]})
        return good

    def _elements(self, name, firsts, counts, addresses, direct):
        """Elements of a dataset, n × 6 words, as the file has them: counts of them from each of firsts on. direct: they are
        read in one piece from the address that the page of their group gives; otherwise as HDF5 finds them."""
        ends = np.cumsum(counts)
        rows = np.zeros((int(ends[-1]), 6), "<u8")
        for first, end, count, address in zip(firsts.tolist(), ends.tolist(), counts.tolist(), addresses.tolist()):
            if count and direct:
                self._read(address, rows[end - count:end])
            elif count:
                rows[end - count:end] = self._file[name][first:first + count].view("<u8").reshape(-1, 6)
        return rows

    def _read(self, address, into):
        """Reads what the file has at an address, which may be nothing."""
        if 0 <= address <= self._size - into.nbytes:
            self._raw.seek(address)
            self._raw.readinto(memoryview(into).cast("B"))

    def _extents(self, addresses, size):
        """What the file has at addresses, n × size bytes; zeros for addresses of no extent."""
        units, rows = -(-size // 64), np.zeros((len(addresses), size), np.uint8)  # extents are whole units
        inside = np.flatnonzero((addresses % np.uint64(64) == 0) & (addresses <= np.uint64(max(self._size - size, 0))))
        order = inside[np.argsort(addresses[inside], kind="stable")]
        at = addresses[order].astype(np.int64)
        for part, of in zip(*(np.split(a, np.flatnonzero(np.diff(at) > size + NEAR) + 1) for a in (at, order))):
            if len(of):
                buffer = np.zeros(((part[-1] - part[0]) // 64 + units, 64), np.uint8)
                self._read(int(part[0]), buffer.reshape(-1)[:part[-1] - part[0] + size])
                numbers = (part - part[0])[:, None] // 64 + np.arange(units)
                rows[of] = buffer.take(numbers, 0).reshape(len(of), -1)[:, :size]
        return rows

    def _of_row(self, firsts, pages, starts, ends, direct):
        """Entries and more rows of groups, as the file has them, from starts to ends, both n × 2. firsts: those of the groups."""
        counts, address = ends - starts, pages["row_address"].astype(np.int64)
        after = address + -(-pages["entry_count"].astype(np.int64) // self._chunk) * self._chunk * 48  # more rows follow
        return (self._elements("buckets/entries", firsts + starts[:, 0], counts[:, 0], address + 48 * starts[:, 0], direct),
                self._elements("buckets/more", firsts + starts[:, 1], counts[:, 1], after + 48 * starts[:, 1], direct))

    def _of_groups(self, first, last):
        """The entries of the rows of groups first to last - 1, and their more rows."""
        pages, groups = self._states[first:last], np.arange(first, last)
        ends = np.stack([pages["entry_count"], pages["more_count"]], 1).astype(np.int64)
        used = np.arange(pages["buckets"].shape[1]) < 1 << pages["bucket_bits"].astype(np.int64)[:, None]
        counts = np.where(used, np.diff(pages["buckets"]["entry_end"].astype(np.int64), axis=1, prepend=0), 0)
        demand((counts.sum(1) == ends[:, 0]) & (ends <= self._capacity).all(1), "/buckets/state: group", groups)
        owners = np.repeat(groups, ends[:, 0])
        seeds = np.repeat(seeded(self.config["file_uuid"], groups, pages["commit"]), ends[:, 0])
        for direct in True, False:
            rows, more = self._of_row(groups * self._capacity, pages, ends * 0, ends, direct)
            number = rows.view(ENTRY)[:, 0]["more"].astype(np.int64)
            has = number > 0
            if has.any():  # by numbers within each bucket
                before = np.diff(pages["buckets"]["more_end"].astype(np.int64), axis=1, prepend=0)
                firsts = np.cumsum(before, 1) - before + (np.cumsum(ends[:, 1]) - ends[:, 1])[:, None]
                number = np.repeat(firsts.ravel(), counts.ravel())[has] + number[has] - 1
                more = more.take(number, 0, mode="clip") if len(more) else np.zeros((len(number), 6), "<u8")
            else:
                more = NO_ROWS
            sound = self._sound(seeds, rows, more) & ~copies(rows)[0]
            if sound.all():
                return rows, more
        return chosen(rows, more, self._good(sound, "/buckets/entries: group", owners))

    def _of_run(self, run, first, end):
        """The entries of slots first to end - 1 of a run, and their more rows, as the file has them."""
        number, mores, index = run[0], run[5], run[6]
        rows = np.array(self._mapped("runs/entries_%d" % number)[int(index["first"][first]):int(index["first"][end])])
        rows = rows.view("<u8").reshape(-1, 6)
        at = rows.view(ENTRY)[:, 0]["more"].astype(np.int64)
        has = at > 0
        if not mores or not has.any():
            return rows, np.zeros((np.count_nonzero(has), 6), "<u8")
        starts = np.repeat(index["first_more"][first:end].astype(np.int64), np.diff(index["first"][first:end + 1].astype(np.int64)))
        return rows, self._mapped("runs/more_%d" % number)[starts[has] + at[has] - 1].view("<u8").reshape(-1, 6)

    def _groups_of(self, keys):
        """Hashes of keys, and the groups that they belong to."""
        hashes = siphash(self.config["hash_seed"], keys)
        depth = self.config["global_depth"]
        return hashes, self._directory["bucket_id"][(hashes >> np.uint64(64 - depth)).astype(np.int64) if depth else np.zeros(len(keys), np.int64)]

    def _waiting(self):
        """What runs hold in place of rows, in order of groups, the newest of a key last: entries, their more rows, how many
        of those are before each, hashes, groups."""
        commits, parts, self._doubts = self._commits(), [], []
        for run in self._runs:
            rows, more = self._of_run(run, 0, len(run[6]) - 1)
            sound, (later, twice) = self._sound(np.repeat(run[7], len(rows)), rows, more), copies(rows)
            good = self._good(sound & ~later, "/runs: run", np.full(len(rows), run[0]))
            if not good.all():  # of keys in the same slots older entries may not be the last word
                slots = np.searchsorted(run[6]["first"], np.flatnonzero(~sound | twice), "right") - 1
                self._doubts.append((run, slots.astype(np.uint64), commits))
                parts = [self._part(part, self._certain(part[0][:, :2])) for part in parts]
                rows, more = chosen(rows, more, good)
            hashes, groups = self._groups_of(rows[:, :2])
            counts = (hashes >= np.uint64(run[1])) & (hashes <= np.uint64(run[2])) & (commits[groups] < run[0])
            parts.append(self._part((rows, more, hashes, groups), counts))
        parts = [np.concatenate(column) for column in zip(*parts)]
        rows, more, hashes, groups = self._part(parts, np.argsort(parts[3], kind="stable"))
        return rows, more, np.append(0, np.cumsum(rows.view(ENTRY)[:, 0]["more"] > 0)), hashes, groups

    @staticmethod
    def _part(waiting, which):
        rows, more, hashes, groups = waiting
        return (*chosen(rows, more, which), hashes[which], groups[which])

    def _certain(self, keys):
        """Which keys certainly have no later entry in a damaged slot of a run."""
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

    def _parts(self, read, first, last, what="group"):
        """read(first, last), in smaller pieces if one fails and a loop goes on past damage; None for one that failed."""
        try:
            return [read(first, last)]
        except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            if self._skipped is None:
                raise
            if last - first == 1:
                self._skipped.append("%s %d: %s" % (what, first, error))
                return [None]
        middle = (first + last) // 2
        return self._parts(read, first, middle, what) + self._parts(read, middle, last, what)

    def _tree(self):
        """All pairs of the committed tree, n × 4 words, in parts."""
        self._doubts = []
        waiting = self._waiting() if self._runs else None
        for first in range(0, len(self._states), STEP):
            last = min(first + STEP, len(self._states))
            read = [part for part in self._parts(self._of_groups, first, last) if part] or [(NO_ROWS, NO_ROWS)]
            rows, more = map(np.concatenate, zip(*read))
            if self._doubts:
                rows, more = chosen(rows, more, self._certain(rows[:, :2]))
            for part in self._newer(waiting, rows, more, first, last) if waiting else [(rows, more)]:
                yield from self._values(*part)

    def _newer(self, waiting, rows, more, first, last):
        """The entries of groups first to last - 1 and their more rows, in parts. Of a key that runs have too, it is the newest
        entry."""
        start, end = np.searchsorted(waiting[4], [first, last])
        if start == end:
            yield rows, more
            return
        later, hashes = waiting[0][start:end], waiting[3][start:end]
        later_more = waiting[1][waiting[2][start]:waiting[2][end]]
        perhaps = among(later[:, :2])(rows[:, :2])
        yield chosen(rows, more, ~perhaps)
        both, both_more = chosen(rows, more, perhaps)
        hashes = np.concatenate([siphash(self.config["hash_seed"], both[:, :2]), hashes])
        both, both_more = np.concatenate([both, later]), np.concatenate([both_more, later_more])
        yield chosen(both, both_more, newest(both[:, :2], hashes))

    def _values(self, rows, more):
        """The pairs of entries, in parts."""
        if (rows.view(ENTRY)[:, 0]["flags"] & DELETED).any():
            rows, more = chosen(rows, more, rows.view(ENTRY)[:, 0]["flags"] & DELETED == 0)
        count = rows.view(ENTRY)[:, 0]["value_count"]
        yield rows[:, :4] if count.all() else rows[count > 0, :4]
        has = rows.view(ENTRY)[:, 0]["more"] > 0
        keys, others = rows[has, :2], count[has]
        for i in range(1, int(others.max(initial=0))):
            yield np.hstack([keys[others > i], more[others > i, 2 * i - 2:2 * i]])
        yield from self._of_sets(rows[count == 0, 3], rows[count == 0, :2])

    def _found(self, key):
        """The pairs of one key in the committed tree. Its bucket, and its slots of runs, are verified completely."""
        place, depth = siphash_one(self.config["hash_seed"], *map(int, key)), self.config["global_depth"]
        group = int(self._directory["bucket_id"][place >> 64 - depth])
        pages = self._page(group)
        page = pages[0]
        demand(np.array([(place ^ int(page["prefix"])) >> 64 - int(page["local_depth"]) == 0]), "/buckets/state: group", [group])
        bits, runs = int(page["local_depth"]) + int(page["bucket_bits"]), []
        for run in self._runs:
            if run[0] > page["commit"] and run[1] <= place <= run[2]:
                slot = place - run[3] >> run[4]
                first, end = run[6]["first"][slot:slot + 2]
                runs.append((*self._of_run(run, slot, slot + 1), self._mapped("runs/tags_%d" % run[0])[first:end], run[7], 64 - run[4]))
        own = seeded(self.config["file_uuid"], np.array([group]), pages["commit"])
        for direct in True, False:
            parts = [(*self._of_bucket(group, pages, place, direct), own, bits), *runs]
            seeds = np.concatenate([np.repeat(seed, len(part)) for part, _, _, seed, _ in parts])
            rows, more = (np.concatenate(part) for part in list(zip(*parts))[:2])
            sound = self._sound(seeds, rows, more)
            if sound.all():
                break
        for entries, _, tags, _, bits in parts:  # the row of another key may be a copy, in the place of this key's
            tag = (place << bits & (1 << 64) - 1) >> 48
            for other in entries[np.flatnonzero(tags == tag), :2].tolist():
                if other != key.tolist() and (siphash_one(self.config["hash_seed"], *other) << bits & (1 << 64) - 1) >> 48 != tag:
                    sound[:] = False
        demand(sound, "/buckets/entries or /runs: group", np.full(len(rows), group))
        return self._values(*chosen(rows, more, np.flatnonzero((rows[:, :2] == key).all(1))[-1:]))  # the newest

    def _of_bucket(self, group, pages, place, direct):
        """The entries of the bucket of a hash, their more rows, and their tags, as the file has them."""
        page = pages[0]
        bucket = (place << int(page["local_depth"]) & (1 << 64) - 1) >> 64 - int(page["bucket_bits"])
        ends = page["buckets"][max(bucket - 1, 0):bucket + 1].tolist()
        start, end = ends[0][:2] if bucket else (0, 0), ends[-1][:2]
        firsts = np.array([group * self._capacity])
        rows, more = self._of_row(firsts, pages, np.array([start]), np.array([end]), direct)
        number = rows.view(ENTRY)[:, 0]["more"].astype(np.int64)
        number = number[number > 0] - 1
        more = more.take(number, 0, mode="clip") if len(more) else np.zeros((len(number), 6), "<u8")
        return rows, more, page["tags"][start[0]:end[0]]

    def _states_of(self, ids):
        """The states of sets, as the file has them; zeros for what cannot be read, if a loop goes on past damage."""
        if self._set_states is not None:
            return self._set_states.take(ids.astype(np.int64), mode="clip")
        if len(ids) == 1 and self._skipped is None:
            return self._sets[int(ids[0]):int(ids[0]) + 1]
        chunks, noted = -(-len(self._sets) // SETS), len(self._skipped or [])
        read = self._parts(lambda at, end: self._sets[at * SETS:end * SETS], 0, chunks, "/values/state: chunk")
        states = np.concatenate([np.zeros(SETS, self._sets.dtype) if part is None else part for part in read])
        if len(self._skipped or []) == noted:
            self._set_states = states
        return states.take(ids.astype(np.int64), mode="clip")

    def _of_sets(self, ids, owners):
        """The pairs of spilled sets, in parts."""
        if not len(ids):
            return
        good = self._good(ids < len(self._sets), "/values/state: row", ids)
        ids, owners = ids[good], owners[good]
        if not len(ids):
            return
        states = self._states_of(ids)
        good = (states.view("<u8").reshape(len(ids), -1)[:, :2] == owners).all(1) & (states["class"] > 0)
        good = self._good(good, "/values/state: row", ids)
        states, owners = states[good], owners[good]
        forms = states["class"].astype(np.int64) << 16 | states["depth"]
        for form in np.unique(forms).tolist():
            size, depth = form >> 16, form & 0xFFFF
            name = "/values/nodes" if size == TREE else "/values/class_%d" % size
            nodes, keys = states[forms == form], owners[forms == form]
            addresses = nodes["row_address"]
            for level in range(depth + 1):
                if not len(nodes):  # all of them are damaged
                    break
                good, rows = self._set_rows(name, nodes, addresses)
                good = self._good(good, name + ": row", nodes["row"])
                nodes, keys, rows = nodes[good], keys[good], rows[good]
                if level < depth:  # they hold child records, not values
                    used = rows.view(CHILD)["address"] > 0
                    nodes, keys = rows.view(CHILD)[used], np.repeat(keys, used.sum(1), 0)
                    addresses = nodes["address"]
            if not len(nodes):
                continue
            values = rows.view("<u8").reshape(len(nodes), -1, 2)  # live ones first, then tombstoned ones
            demand(nodes["count"] <= values.shape[1], name + ": row", nodes["row"])
            pairs = np.empty((int(nodes["count"].sum()), 4), np.uint64)
            pairs[:, :2] = np.repeat(keys, nodes["count"].astype(np.int64), 0)
            pairs[:, 2:] = values[np.arange(values.shape[1]) < nodes["count"][:, None]]
            yield pairs

    def _set_rows(self, name, nodes, addresses):
        """Rows of sets, or nodes, and which of them are sound. They are read from the addresses in what names them; those that
        are not sound there are read as HDF5 finds them."""
        if name not in self._rows:
            self._rows[name] = self._file[name].id
        dataset, uuid = self._rows[name], self.config["file_uuid"]
        rows = self._extents(addresses, 16 * dataset.shape[1])
        good = nodes["crc32c"] == crc32c(uuid, nodes["row"], nodes["commit"], rows)
        again = np.flatnonzero(~good)
        for at in again.tolist():
            rows[at] = np.frombuffer(dataset.read_direct_chunk((int(nodes["row"][at]), 0))[1], np.uint8)
        nodes = nodes[again]
        good[again] = nodes["crc32c"] == crc32c(uuid, nodes["row"], nodes["commit"], rows[again])
        return good, rows

    def get(self, key):
        """All values of key, ascending ints, [] when absent. key: see identifier."""
        key = np.frombuffer(identifier(key).to_bytes(16, "big"), ">u8").astype(np.uint64)
        with self._used():
            return self._get(key)

    def _get(self, key):
        parts = self._named(lambda: list(self._found(key)))
        if self._by_key is None:
            order = np.argsort(self._operations[:, 1], kind="stable")
            self._by_key = order, self._operations[order, 1]
        order, lows = self._by_key
        own = order[np.searchsorted(lows, key[1]):np.searchsorted(lows, key[1], "right")]
        own = own[self._operations[own, 0] == key[0]]
        pairs = replay(np.concatenate([NO_PAIRS, *parts]), self._codes[own], self._operations[own])
        return sorted(high << 64 | low for high, low in pairs[:, 2:].tolist())

    def _all_pairs(self):
        with self._used():
            return self._read_all()

    def _read_all(self):
        """Every pair that can be read, and the errors of what cannot."""
        self._skipped = []
        try:
            parts, touched = [NO_PAIRS], [NO_PAIRS]
            self._named(self._read_parts, parts, touched)
            skipped = list(dict.fromkeys(self._skipped))
        finally:
            self._skipped = None
        return np.concatenate([*parts, replay(np.concatenate(touched), self._codes, self._operations)]), skipped

    def _read_parts(self, parts, touched):
        """Divides the pairs of the tree into those that the log does not touch, and others."""
        operations = self._operations
        of_pairs, of_keys = among(operations), among(operations[self._codes == DELETE, :2])
        count = 0
        for part in self._tree():
            count += len(part)
            if len(operations):
                which = of_pairs(part) | of_keys(part[:, :2])
                touched.append(part[which])
                part = part[~which]
            parts.append(part)
        if not self._skipped and count != self.config.get("num_values", count):
            self._skipped.append("/config: num_values %d, found %d" % (self.config["num_values"], count))

    def _complain(self, skipped):
        if skipped:
            places = "1 place" if len(skipped) == 1 else "%d places" % len(skipped)
            raise ValueError("%s: %s cannot be read, the first: %s" % (self._raw.name, places, skipped[0]))

    def pairs(self, skip_bad=False):
        """Iterates every (key, value) once, ints, in no promised order. What cannot be read is left out, and is a
        ValueError after the last pair, unless skip_bad."""
        pairs, skipped = self._all_pairs()
        yield from ((a << 64 | b, c << 64 | d) for a, b, c, d in struct.iter_unpack("=4Q", pairs))
        if not skip_bad:
            self._complain(skipped)

    def to_dataframe(self, skip_bad=False):
        """Every pair as a pandas.DataFrame of uint64 columns key_high, key_low, value_high, value_low. ValueError if
        some cannot be read; skip_bad leaves them out."""
        import pandas
        pairs, skipped = self._all_pairs()
        if not skip_bad:
            self._complain(skipped)
        return pandas.DataFrame(pairs, columns=COLUMNS)

    def close(self, *_):
        """Gives up the pin and the file. It may be called again."""
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self):
        self._maps, self._runs, self._rows = {}, [], {}  # a mapping holds the file open, and so does a dataset
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
