"""What Windows' programs send, in the compounds in which its client sends it: Office's way to save, Explorer's copies, properties
and free space."""
from support import *

nfs = NFS()
nfs.mkdir("/desk")

# The contexts of nearly every CREATE of Windows: a durable handle, maximal access, the file's number, a lease.
def contexts(key, state=7):
    return [
        (b"DH2Q", struct.pack("<IIQ", 0, 0, 0) + uuid.uuid4().bytes),
        (b"MxAc", b""),
        (b"QFid", b""),
        lease(key, state),
    ]


def by_windows(name, access, disposition=OPEN, options=NO_DIRECTORY, share=SHARE_ALL, attributes=0, key=None):
    return create(name, access, disposition, options, share, contexts(key or uuid.uuid4().bytes), 0xFF, attributes)


def good(answers, *wanted):
    statuses = [status for status, _ in answers]
    equal(statuses, list(wanted) or [0] * len(statuses))
    return [data for _, data in answers]


def looked_at(client, name):
    """How the redirector fills its cache of attributes: opens, asks, closes, in one message."""
    answers = client.compound(
        (CREATE, create(name, READ_ATTRIBUTES | SYNCHRONIZE, contexts=[(b"MxAc", b""), (b"QFid", b"")])),
        (QUERY_INFO, query_info(LAST, 34, room=56)),
        (CLOSE, close(LAST)))
    statuses = [status for status, _ in answers]
    if statuses[0] == 0:
        data = output(answers[1][1])
        return struct.unpack_from("<QQQQQQI", data)
    # What follows a CREATE that failed fails like it.
    equal(statuses, [statuses[0]] * 3)
    return statuses[0]


@case
def office_saves_by_renaming():
    with Client() as client, Client() as colleague:
        client.oblige()
        client.put("desk\\report.docx", b"version 1")
        before = looked_at(client, "desk\\report.docx")
        document = File(client, good(client.compound((CREATE, by_windows(
            "desk\\report.docx", GENERIC_READ, share=SHARE_READ | SHARE_DELETE, key=b"the document's ."))))[0])
        assert {b"MxAc", b"QFid", b"RqLs", b"DH2Q"} <= set(document.contexts), document.contexts.keys()
        equal(struct.unpack("<II", document.contexts[b"MxAc"]), (0, ALL))
        # The file that says who has it open.
        owner = File(client, good(client.compound((CREATE, by_windows(
            "desk\\~$report.docx", GENERIC_READ | GENERIC_WRITE | DELETE, MAKE, NO_DIRECTORY | DELETE_ON_CLOSE,
            SHARE_READ | SHARE_DELETE, attributes=2))))[0])
        owner.write(b"\x07torture".ljust(162, b"\0"))
        # A colleague sees it, and may look at the document, but not write.
        equal(colleague.compound((CREATE, create("desk\\report.docx", GENERIC_READ | GENERIC_WRITE)))[0][0], SHARING_VIOLATION)
        equal(looked_at(colleague, "desk\\~$report.docx")[6], 0x22)
        # The new version goes to a file of its own.
        equal(looked_at(client, "desk\\1B2C3D4E.tmp"), OBJECT_NAME_NOT_FOUND)
        new = File(client, good(client.compound((CREATE, by_windows(
            "desk\\1B2C3D4E.tmp", GENERIC_READ | GENERIC_WRITE | DELETE | WRITE_DAC, MAKE, share=0))))[0])
        new.write(b"version 2, which is longer")
        good(client.compound((FLUSH, struct.pack("<HHI", 24, 0, 0) + new.handle)))
        # It gets the times and the access list of the old one.
        descriptor = document.info(0, kind=3, additional=7)
        new.set(4, struct.pack("<QQQQII", before[0], 0, 0, 0, 0x20, 0))
        new.set(0, descriptor, kind=3, additional=4)
        new.close()
        document.close()
        # The old one steps aside, the new one takes its place, the old one goes.
        for old_name, new_name in (("report.docx", "5F6A7B8C.tmp"), ("1B2C3D4E.tmp", "report.docx")):
            moved = client.compound(
                (CREATE, create(f"desk\\{old_name}", DELETE | READ_ATTRIBUTES | SYNCHRONIZE, contexts=[(b"MxAc", b"")])),
                (SET_INFO, set_info(LAST, 10, renaming(f"desk\\{new_name}"))),
                (CLOSE, close(LAST)))
            good(moved)
        removed = client.compound(
            (CREATE, create("desk\\5F6A7B8C.tmp", DELETE | READ_ATTRIBUTES)),
            (SET_INFO, set_info(LAST, 13, b"\1")),
            (CLOSE, close(LAST)))
        good(removed)
        owner.close()
        after = looked_at(client, "desk\\report.docx")
        equal((after[0], after[5]), (before[0], 26))
        equal(colleague.get("desk\\report.docx"), b"version 2, which is longer")
        equal(nfs.get("/desk/report.docx"), b"version 2, which is longer")
        equal(sorted(client.names("desk")), ["report.docx"])


@case
def office_replaces_with_a_backup():
    """ReplaceFile: the new name over the old one, while somebody still reads it."""
    with Client() as client, Client() as reader:
        client.put("desk\\sheet.xlsx", b"old")
        client.put("desk\\AB12.tmp", b"new")
        reading = reader.create("desk\\sheet.xlsx", GENERIC_READ)
        number = nfs.stat("/desk/AB12.tmp").ino
        # A copy is kept first, by a hard link.
        good(client.compound(
            (CREATE, create("desk\\sheet.xlsx", READ_ATTRIBUTES | WRITE_ATTRIBUTES)),
            (SET_INFO, set_info(LAST, 11, renaming("desk\\sheet.bak"))),
            (CLOSE, close(LAST))))
        refused = client.compound(
            (CREATE, create("desk\\AB12.tmp", DELETE)), (SET_INFO, set_info(LAST, 10, renaming("desk\\sheet.xlsx"))),
            (CLOSE, close(LAST)))
        good(refused, 0, OBJECT_NAME_COLLISION, 0)
        answers = client.compound(
            (CREATE, create("desk\\AB12.tmp", DELETE)),
            (SET_INFO, set_info(LAST, 10, renaming("desk\\sheet.xlsx", True))), (CLOSE, close(LAST)))
        if answers[1][0] == ACCESS_DENIED:
            # As Windows says it while the one that is replaced is open.
            reading.close()
            good(client.compound(
                (CREATE, create("desk\\AB12.tmp", DELETE)),
                (SET_INFO, set_info(LAST, 10, renaming("desk\\sheet.xlsx", True))), (CLOSE, close(LAST))))
        else:
            good(answers)
            equal(reading.read(3), b"old")
            reading.close()
        equal(nfs.stat("/desk/sheet.xlsx").ino, number)
        equal((client.get("desk\\sheet.xlsx"), client.get("desk\\sheet.bak")), (b"new", b"old"))
        client.remove("desk\\sheet.bak")
        client.remove("desk\\sheet.xlsx")


@case
def explorer_copies_on_the_server():
    body = os.urandom(5_000_001)
    with Client() as client:
        client.put("desk\\source.bin", body)
        source = File(client, good(client.compound((CREATE, by_windows(
            "desk\\source.bin", GENERIC_READ, share=SHARE_READ | SHARE_DELETE))))[0])
        # What it asks before it copies: all there is to know, streams, the volume.
        good(client.compound((QUERY_INFO, query_info(source.handle, 18))))
        streams = source.info(22)
        equal(streams[24:].decode("utf-16-le"), "::$DATA")
        times = struct.unpack_from("<QQQQI", source.info(4))
        target = File(client, good(client.compound((CREATE, create(
            "desk\\source - Copy.bin", ALL, MAKE, NO_DIRECTORY | 4, 0,
            contexts(uuid.uuid4().bytes) + [(b"AlSi", struct.pack("<Q", len(body)))], 0xFF, 0x20))))[0])
        good(client.compound((SET_INFO, set_info(target.handle, 20, struct.pack("<Q", len(body))))))
        key = source.control(0x140078, room=32)[:24]
        done = 0
        while done < len(body):
            chunks = b""
            count = 0
            asked = 0
            while done + asked < len(body) and count < 16:
                length = min(1 << 20, len(body) - done - asked)
                chunks += struct.pack("<QQII", done + asked, done + asked, length, 0)
                asked += length
                count += 1
            answer = target.control(0x1480F2, key + struct.pack("<II", count, 0) + chunks, room=12)
            equal(struct.unpack("<III", answer), (count, 0, asked))
            done += asked
        target.set(4, struct.pack("<QQQQII", times[0], times[1], times[2], 0, 0x20, 0))
        source.close()
        target.close()
        equal(nfs.get("/desk/source - Copy.bin"), body)
        found = looked_at(client, "desk\\source - Copy.bin")
        equal((found[0], found[2], found[5]), (times[0], times[2], len(body)))
        client.remove("desk\\source.bin")
        client.remove("desk\\source - Copy.bin")


@case
def explorer_copies_to_the_server():
    """A folder of small files: each created, sized, written, dated and closed."""
    with Client() as client:
        client.mkdir("desk\\folder")
        when = int((1_400_000_000 + 11644473600) * 1e7)
        for index in range(50):
            equal(looked_at(client, f"desk\\folder\\f{index}"), OBJECT_NAME_NOT_FOUND)
            file = File(client, good(client.compound((CREATE, by_windows(
                f"desk\\folder\\f{index}", ALL, MAKE, share=0, attributes=0x20))))[0])
            good(client.compound(
                (SET_INFO, set_info(file.handle, 20, struct.pack("<Q", 5))),
                (WRITE, write(file.handle, b"12345", 0)),
                (SET_INFO, set_info(file.handle, 4, struct.pack("<QQQQII", when, when, when, 0, 0x20, 0)))))
            file.close()
        listed = client.entries("desk\\folder")
        equal(len(listed), 50)
        assert all((size, written, attributes) == (5, when, 0x20) for _, size, written, attributes in listed), listed[:3]
        # And away with it: each by its own, then the folder.
        for name, *_ in listed:
            good(client.compound(
                (CREATE, create(f"desk\\folder\\{name}", DELETE | READ_ATTRIBUTES, options=0x200000)),
                (SET_INFO, set_info(LAST, 13, b"\1")), (CLOSE, close(LAST))))
        client.remove("desk\\folder")
        assert not client.exists("desk\\folder")


@case
def explorer_shows_a_folder():
    with Client() as client:
        client.mkdir("desk\\shown")
        for index in range(300):
            client.put(f"desk\\shown\\file {index}.txt", b"x" * index)
        # Opened, and the first two pages asked for in one message.
        answers = client.compound(
            (CREATE, create("desk\\shown", GENERIC_READ, options=DIRECTORY, contexts=[(b"MxAc", b""), (b"QFid", b"")])),
            (QUERY_DIRECTORY, query_directory(LAST, room=65536)),
            (QUERY_DIRECTORY, query_directory(LAST, room=65536)))
        entries = listed(output(answers[1][1]))
        if answers[2][0] == 0:
            entries += listed(output(answers[2][1]))
        else:
            equal(answers[2][0], NO_MORE_FILES)
        equal(entries[0][0], ".")
        equal(sorted((name, size) for name, size, *_ in entries[2:]), sorted((f"file {i}.txt", i) for i in range(300)))
        client.ask(CLOSE, close(File(client, answers[0][1]).handle))
        # One by its name, and none.
        equal(client.names("desk\\shown", "FILE 7.TXT"), ["file 7.txt"])
        equal(client.names("desk\\shown", "file 29?.txt"), [f"file 29{i}.txt" for i in range(10)])
        equal(client.names("desk\\shown", "*.nothing"), [])
        equal(looked_at(client, "desk\\shown\\desktop.ini"), OBJECT_NAME_NOT_FOUND)
        for name in client.names("desk\\shown"):
            client.remove(f"desk\\shown\\{name}")
        client.remove("desk\\shown")


@case
def explorer_shows_properties():
    with Client() as client:
        client.put("desk\\thing", b"0123456789")
        client.put("desk\\thing:Zone.Identifier", b"[ZoneTransfer]\r\nZoneId=3\r\n")
        file = client.create("desk\\thing", GENERIC_READ | READ_CONTROL)
        basic, standard, internal = file.info(4), file.info(5), file.info(6)
        equal(struct.unpack_from("<QIBB", standard, 8), (10, 1, 0, 0))
        equal(struct.unpack_from("<Q", internal)[0], nfs.stat("/desk/thing").ino)
        everything = file.info(18)
        equal(everything[:36], basic[:36])
        equal(struct.unpack_from("<Q", everything, 48)[0], 10)
        equal(everything[64:72], internal[:8])
        streams, place, names = file.info(22), 0, {}
        while True:
            following, count, size = struct.unpack_from("<IIQ", streams, place)
            names[streams[place + 24:place + 24 + count].decode("utf-16-le")] = size
            if not following:
                break
            place += following
        equal(names, {"::$DATA": 10, ":Zone.Identifier:$DATA": 26})
        network = file.info(34)
        equal(struct.unpack_from("<QI", network, 40)[0], 10)
        equal(struct.unpack("<II", file.info(35))[1], 0)
        equal(struct.unpack_from("<I", file.info(7))[0], 0)
        equal(struct.unpack_from("<QQ", file.info(59), 8)[0], nfs.stat("/desk/thing").ino)
        # The tab of security: owner, group and list, first with too little room.
        answers = client.compound((QUERY_INFO, query_info(file.handle, 0, 3, 0, 7)))
        equal(answers[0][0], 0xC0000023)
        descriptor = file.info(0, kind=3, additional=7)
        equal(descriptor[0], 1)
        equal(struct.unpack_from("<H", descriptor, 2)[0] & 0x8004, 0x8004)
        file.close()
        # Read-only and hidden, by the box that is ticked; then not any more.
        for attributes in (0x23, 0x20):
            good(client.compound(
                (CREATE, create("desk\\thing", WRITE_ATTRIBUTES | READ_ATTRIBUTES)),
                (SET_INFO, set_info(LAST, 4, struct.pack("<QQQQII", 0, 0, 0, 0, attributes, 0))), (CLOSE, close(LAST))))
            equal(looked_at(client, "desk\\thing")[6], attributes)
            opened = client.compound((CREATE, create("desk\\thing", GENERIC_WRITE)))[0]
            equal(opened[0], ACCESS_DENIED if attributes & 1 else 0)
            if not attributes & 1:
                File(client, opened[1]).close()
        client.remove("desk\\thing")


@case
def explorer_shows_free_space():
    with Client() as client:
        answers = client.compound(
            (CREATE, create("", READ_ATTRIBUTES | SYNCHRONIZE, options=0x20)),
            (QUERY_INFO, query_info(LAST, 7, kind=2, room=32)),
            (QUERY_INFO, query_info(LAST, 3, kind=2, room=24)),
            (QUERY_INFO, query_info(LAST, 1, kind=2, room=1024)),
            (QUERY_INFO, query_info(LAST, 5, kind=2, room=1024)),
            (QUERY_INFO, query_info(LAST, 4, kind=2, room=8)),
            (QUERY_INFO, query_info(LAST, 11, kind=2, room=28)),
            (CLOSE, close(LAST)))
        datas = good(answers)
        total, available, free, sectors, size = struct.unpack("<QQQII", output(datas[1]))
        assert 0 < available <= free <= total, (available, free, total)
        equal(struct.unpack("<QQII", output(datas[2])), (total, available, sectors, size))
        created, serial, count = struct.unpack_from("<QII", output(datas[3]))
        equal(output(datas[3])[18:18 + count].decode("utf-16-le"), "default")
        attributes, longest, count = struct.unpack_from("<III", output(datas[4]))
        equal(output(datas[4])[12:12 + count].decode("utf-16-le"), "NTFS")
        # Keeps case, knows Unicode, access lists and streams.
        equal(attributes & 0x4000E, 0x4000E)


run()
