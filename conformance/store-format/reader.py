"""Reads a volume from its store and its log by Protocols/store-format.md alone, and prints what its files are.

    reader.py STORE LOG         one line a file: SHA-256 (or the target of a link), a space, the path

It keeps nothing of what a server does: a tree is read whole into a dictionary, and a checksum that does not match ends it.
"""
import hashlib
import os
import struct
import sys

_TABLE = []
for _value in range(256):
    for _ in range(8):
        _value = _value >> 1 ^ 0x82F63B78 if _value & 1 else _value >> 1
    _TABLE.append(_value)


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF


def expect(condition, what):
    if not condition:
        raise SystemExit("store-format: " + what)


def number(name):
    return int(name, 16)


class Store:
    """Objects of a directory store, by name."""

    def __init__(self, root):
        self.files = {}
        for folder, _, names in os.walk(os.path.join(root, "objects")):
            parent = os.path.relpath(os.path.dirname(folder), os.path.join(root, "objects"))
            for name in names:
                self.files[parent + "/" + name] = os.path.join(folder, name)

    def get(self, name):
        with open(self.files[name], "rb") as file:
            return file.read()

    def numbers(self, prefix):
        return sorted(number(name[len(prefix):]) for name in self.files if name.startswith(prefix))


def varint(data, place):
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place


class Volume:
    def __init__(self, store, prefix, log):
        self.store, self.prefix, self.log = store, prefix, log
        self.objects = {}
        self.trees = {}
        self.read_header()
        slots = self.read_slots()
        records = self.read_log() if self.has_log() else []
        for record in max(records, slots, key=len):
            self.apply(record)

    def read_header(self):
        newest = self.store.numbers(self.prefix + "/header/")[-1]
        expect(newest > max(self.store.numbers(self.prefix + "/boundary/"), default=0), "the newest header was overtaken")
        data = self.store.get("%s/header/%016x" % (self.prefix, newest))
        expect(data[:4] == b"PXHD" and struct.unpack_from("<H", data, 4)[0] == 3, "not a header that this program knows")
        expect(crc32c(data[:-4]) == struct.unpack_from("<I", data, len(data) - 4)[0], "the header's checksum")
        features, self.high, self.low, own = struct.unpack_from("<4Q", data, 8)
        expect(features < 4 and own == newest, "the header's features or number")
        self.epoch, = struct.unpack_from("<Q", data, 40)
        self.place, first_slot, self.slots_end = struct.unpack_from("<3Q", data, 104)
        self.first_slot = first_slot if features & 1 else None
        self.log_first, self.log_durable = struct.unpack_from("<2Q", data, 56)
        trees, objects, doomed, staged = struct.unpack_from("<4I", data, 88)
        place = 128
        for _ in range(trees):
            tree = struct.unpack_from("<I", data, place)[0]
            self.trees[tree] = {}
            self.read_node(tree, data[place + 4:place + 32], None)
            place += 32
        claim = 16 if features & 2 else 0
        expect(place + objects * 24 + doomed * 9 + staged * 20 + claim + 4 == len(data), "the header's length")
        self.slots_epoch = struct.unpack_from("<Q", data, len(data) - 12)[0] if claim else self.epoch

    def object(self, number):
        if number not in self.objects:
            data = self.store.get("%s/meta/%016x" % (self.prefix, number))
            expect(data[:4] == b"PXMO" and struct.unpack_from("<Q", data, 8)[0] == number, "not the object %x" % number)
            expect(struct.unpack_from("<2Q", data, 24) == (self.high, self.low), "an object of another volume")
            self.objects[number] = data
        return self.objects[number]

    def read_node(self, tree, address, low):
        object_, offset, length, checksum, _ = struct.unpack("<QIIIQ", address)
        if object_ == 0:
            return
        data = self.object(object_)[offset:offset + length]
        expect(crc32c(data) == checksum, "the checksum of a node of tree %d" % tree)
        level, flags, count, own = struct.unpack_from("<BBHI", data)
        expect(own == tree, "a node of another tree")
        size, place = varint(data, 8)
        fence = data[place:place + size]
        place += size
        expect(low is None or fence == low, "a node at the wrong place")
        prefix = b""
        if flags & 1:
            size, place = varint(data, place)
            prefix = os.path.commonprefix([fence, data[place:place + size]])
            place += size
        for _ in range(count):
            key_size, place = varint(data, place)
            value_size, place = varint(data, place)
            key = prefix + data[place:place + key_size]
            place += key_size
            value = data[place:place + value_size]
            place += value_size
            if level == 0:
                self.trees[tree][key] = value
            else:
                self.read_node(tree, value, key)
        expect(place == length, "a node's length")

    def has_log(self):
        if self.place == 0 or not os.path.exists(os.path.join(self.log, "place")):
            return False
        with open(os.path.join(self.log, "place"), "rb") as file:
            data = file.read()
        whole = [copy for copy in (data[:12], data[12:24]) if crc32c(copy[:8]) == struct.unpack_from("<I", copy, 8)[0]]
        expect(whole, "the checksum of the log's place")
        return struct.unpack_from("<Q", whole[0])[0] == self.place

    def read_slots(self):
        """The records from `logFirst` on that the store has."""
        records, known, epoch, whole = [], self.log_first - 1, 0, True
        for slot in self.store.numbers(self.prefix + "/slot/") if self.first_slot is not None else []:
            if slot < self.first_slot:
                continue
            data = self.store.get("%s/slot/%016x" % (self.prefix, slot))
            expect(crc32c(data[:-4]) == struct.unpack_from("<I", data, len(data) - 4)[0], "the checksum of slot %x" % slot)
            version, kind, own, mine, first, stored, count, _ = struct.unpack_from("<HHQQQQII", data, 4)
            expect(data[:4] == b"PXSL" and version == 1 and own == slot, "not the slot %x" % slot)
            if mine < epoch:
                continue
            epoch = mine
            end = first + count if mine >= self.slots_epoch else min(first + count, self.slots_end)
            if kind == 1 or end <= first:
                continue
            known = max(known, min(stored, end - 1))
            whole = whole and first <= self.log_first + len(records)
            at = 64
            for record in range(first, end):
                size, at = varint(data, at)
                if whole and record == self.log_first + len(records):
                    records.append(data[at:at + size])
                at += size
        expect(known < self.log_first + len(records), "the slots end before record %d" % known)
        return records

    def read_log(self):
        """The records from `logFirst` on. A later file supersedes earlier ones from its first record on."""
        files = []
        for name in sorted(os.listdir(self.log)):
            if not name.endswith(".log") or len(name) != 20:
                continue
            with open(os.path.join(self.log, name), "rb") as file:
                data = file.read()
            if data[:4] != b"PXLF" or crc32c(data[:56]) != struct.unpack_from("<I", data, 56)[0]:
                continue
            sequence, first = struct.unpack_from("<2Q", data, 8)
            expect(sequence == number(name[:16]), "a log file with another's name")
            expect(struct.unpack_from("<2Q", data, 40) == (self.high, self.low), "a log of another volume")
            files.append((first, struct.unpack_from("<I", data, 32)[0], sequence, data))
        records = []
        start = max((index for index, file in enumerate(files) if file[0] <= self.log_first), default=0)
        wanted, known, ends = None, self.log_durable, None
        for index, (first, chain, sequence, data) in enumerate(files[start:], start):
            end = min((file[0] for file in files[index + 1:]), default=1 << 64)
            if first > end or (wanted is not None and (first != wanted or chain not in ends)):
                continue
            wanted, ends, place = first, [chain], 4096
            while place + 64 <= len(data):
                length, count, number_, durable, _, own, before, checksum = struct.unpack_from("<IIQQQQII", data, place + 8)
                batch = data[place:place + 64 + length]
                if (batch[:4] != b"PXLB" or own != sequence or number_ != wanted or before != ends[-1]
                        or wanted >= end and count or crc32c(batch[:52] + batch[64:]) != checksum):
                    break
                known = max(known, durable)
                at = 64
                for record in range(number_, number_ + count):
                    size, at = varint(batch, at)
                    if self.log_first <= record < end:
                        records.append(batch[at:at + size])
                    at += size
                if count:
                    ends = []
                ends.append(checksum)
                wanted = min(wanted + count, end)
                place += (64 + length + 511) // 512 * 512
        expect(known < max(wanted or 0, self.log_first), "the log ends before record %d" % known)
        return records

    def apply(self, record):
        place = 0
        while place < len(record):
            kind = record[place]
            place += 1
            if kind == 2:
                for _ in range(3):
                    _, place = varint(record, place)
                place += 4
                continue
            tree, place = varint(record, place)
            key_size, place = varint(record, place)
            value_size = 0
            if kind == 0:
                value_size, place = varint(record, place)
            key = record[place:place + key_size]
            place += key_size
            entries = self.trees.setdefault(tree, {})
            if kind == 0:
                entries[key] = record[place:place + value_size]
            else:
                entries.pop(key, None)
            place += value_size

    def segment(self, segment, offset, length):
        """Bytes of a segment: from the store, where each block is checked, or else from the newest stage file."""
        name = "%s/segment/%016x" % (self.prefix, segment)
        if name in self.store.files:
            data = self.store.get(name)
            expect(struct.unpack_from("<Q", data, 8)[0] == segment and data[:4] == b"PXSG", "not the segment %x" % segment)
            key = struct.pack(">BQ", 2, segment)
            if struct.unpack_from("<Q", self.trees[0][key], 8)[0] > 0:
                for block in range(offset >> 15, (offset + length + 32767) >> 15):
                    sums = self.trees[0][struct.pack(">BQH", 3, segment, block // 256)]
                    wanted = struct.unpack_from("<I", sums, block % 256 * 4)[0]
                    expect(crc32c(data[block << 15:block + 1 << 15]) == wanted, "block %d of segment %x" % (block, segment))
        else:
            stage = os.path.join(self.log, "stage")
            names = [file for file in os.listdir(stage) if file.startswith("%016x-" % segment)]
            expect(names, "segment %x is nowhere" % segment)
            with open(os.path.join(stage, max(names, key=lambda name: int(name[17:-6]))), "rb") as file:
                data = file.read()
        expect(offset + length <= len(data), "segment %x is too short" % segment)
        return data[offset:offset + length]


class Files:
    FORK, DIRECTORY = 1 << 63, 1 << 62

    def __init__(self, volume):
        self.volume = volume
        self.records = sorted(volume.trees[1].items())
        self.by_key = volume.trees[1]

    def of(self, id_, kind):
        prefix = struct.pack(">QB", id_, kind)
        return [(key[9:], value) for key, value in self.records if key.startswith(prefix)]

    def content(self, inode):
        size, = struct.unpack_from("<Q", inode, 32)
        fork, = struct.unpack_from("<Q", inode, 112)
        data = bytearray(size)
        inline = self.by_key.get(struct.pack(">QB", fork | self.FORK, 48))
        if inline is not None:
            part = inline[1:1 + size]
            data[:len(part)] = part
        for key, value in self.of(fork | self.FORK, 49):
            end, = struct.unpack(">Q", key)
            start, segment, offset = struct.unpack_from("<QQI", value, 1)
            end = min(end, size)
            if start < end:
                data[start:end] = self.volume.segment(segment, offset, end - start)
        return bytes(data)

    def walk(self, directory=2, path=""):
        for name, value in self.of(directory | self.DIRECTORY, 33):
            child, _, kind = struct.unpack_from("<QQB", value, 1)
            inode = self.by_key[struct.pack(">QB", child, 16)]
            expect(inode[0] == 1 and inode[1] == kind, "the record of inode %d" % child)
            place = path + "/" + name.decode()
            if kind == 2:
                yield from self.walk(child, place)
            elif kind == 3:
                fork, = struct.unpack_from("<Q", inode, 112)
                yield place, b"".join(value[1:] for _, value in self.of(fork | self.FORK, 50)).decode()
            elif kind == 1:
                yield place, hashlib.sha256(self.content(inode)).hexdigest()


def main():
    for path, what in sorted(Files(Volume(Store(sys.argv[1]), "volume", sys.argv[2])).walk()):
        print(what, path)


main()
