"""Clients that mean no good: what they may take is bounded, and others are served meanwhile and afterwards."""
import logging
import resource
import socket

from support import *

logging.disable(logging.CRITICAL)
# Nor of its own threads, whose sockets are closed under them.
threading.excepthook = lambda _: None
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
# MiB that the server may ever hold in all that follows.
MEMORY = 500


def unharmed(seconds=5):
    begin = time.monotonic()
    with Client(user=OTHER, secret=OTHER_SECRET) as client:
        name = f"fine-{uuid.uuid4()}"
        client.put(name, b"fine")
        equal(client.get(name), b"fine")
        client.remove(name)
    assert time.monotonic() - begin < seconds, f"others wait for {time.monotonic() - begin:.1f} s"


def bounded(what, before):
    print(f"  {what}: {before:.0f} MiB before, {memory('VmRSS'):.0f} now, {memory():.0f} at most", flush=True)
    assert memory() < MEMORY, f"{what}: {memory():.0f} MiB"


def frame(message):
    return struct.pack(">I", len(message)) + message


def header(command, number, credits=1, charge=1, following=0, flags=0):
    return b"\xfeSMB" + struct.pack("<HHIHHIIQIIQ", 64, charge, 0, command, credits, flags, following, number, 0, 0, 0) + bytes(16)


NEGOTIATION = header(NEGOTIATE, 0) + struct.pack("<HHHHI", 36, 1, 1, 0, 0) + bytes(24) + struct.pack("<H", 0x0210)


def answer(peer):
    head = b""
    while len(head) < 4:
        more = peer.recv(4 - len(head))
        if not more:
            return b""
        head += more
    body = b""
    while len(body) < struct.unpack(">I", head)[0]:
        more = peer.recv(65536)
        if not more:
            return b""
        body += more
    return body


def stranger():
    peer = socket.create_connection((HOST, PORT))
    peer.settimeout(20)
    peer.sendall(frame(NEGOTIATION))
    equal(struct.unpack_from("<I", answer(peer), 8)[0], 0)
    return peer


SETUP = struct.pack("<HBBIIHHQ", 25, 0, 1, 0, 0, 88, 32, 0) + b"NTLMSSP\0\1\0\0\0\5\2\0\0" + bytes(16)


@case
def half_made_sessions():
    before = memory("VmRSS")
    peers = []
    for _ in range(500):
        peer = stranger()
        for number in range(1, 12):
            peer.sendall(frame(header(SESSION_SETUP, number) + SETUP))
            status = struct.unpack_from("<I", answer(peer), 8)[0]
            assert status in (0xC0000016, INSUFFICIENT_RESOURCES), hex(status)
            equal(status == INSUFFICIENT_RESOURCES, number > 8)
        peers.append(peer)
    unharmed()
    bounded("half-made sessions", before)
    for peer in peers:
        peer.close()
    unharmed()


@case
def long_tokens_before_the_log_on():
    before = memory("VmRSS")
    peers = []
    for _ in range(300):
        peer = stranger()
        token = b"NTLMSSP\0\1\0\0\0\5\2\0\0" + bytes(60_000)
        body = struct.pack("<HBBIIHHQ", 25, 0, 1, 0, 0, 88, len(token), 0) + token
        for number in range(1, 9):
            peer.sendall(frame(header(SESSION_SETUP, number) + body))
            answer(peer)
        # And a message that never ends.
        peer.sendall(struct.pack(">I", 128 << 10) + bytes(100_000))
        peers.append(peer)
    unharmed()
    bounded("long tokens", before)
    for peer in peers:
        peer.close()


@case
def credit_floods():
    before = memory("VmRSS")
    # Before the log-on nobody gets more than one request at a time.
    peer = stranger()
    peer.sendall(frame(header(ECHO, 1, credits=65535) + struct.pack("<HH", 4, 0)))
    data = answer(peer)
    assert not data or struct.unpack_from("<H", data, 14)[0] <= 1, struct.unpack_from("<H", data, 14)
    peer.close()
    granted = []

    def receiving(message):
        if message[:4] == b"\xfeSMB":
            granted.append(struct.unpack_from("<H", message, 14)[0])
        return message

    with Client(receiving=receiving) as client:
        for _ in range(300):
            client.line.echo(client.session.session_id, credit_request=65535)
        window = client.line.sequence_window
        assert window["high"] - window["low"] <= 8192, window
        # All of them at once: each a watch that waits, as many as there may be.
        folder = client.create("", GENERIC_READ, OPEN, DIRECTORY)
        requests = [client.send((CHANGE_NOTIFY, watching(folder.handle, room=65536)))[0] for _ in range(2000)]
        statuses = {}
        assert eventually(lambda: all(request.response is not None for request in requests), 30)
        for request in requests:
            status = request.response["status"].get_value()
            statuses[status] = statuses.get(status, 0) + 1
        assert set(statuses) == {PENDING, INSUFFICIENT_RESOURCES} and statuses[PENDING] <= 512, statuses
        unharmed()
    bounded("credit floods", before)


@case
def compound_bombs():
    before = memory("VmRSS")
    with Client() as maker:
        maker.create("sparse", ALL, OVERWRITE_IF).set(20, struct.pack("<Q", 8 << 20))
    # Reads of all credits in one message; the answers are more than one message can hold.
    with Client() as client:
        for _ in range(20):
            client.line.echo(client.session.session_id, credit_request=8192)
        file = client.create("sparse", GENERIC_READ)
        for _ in range(3):
            answers = client.compound(*[(READ, read(file.handle, 1 << 20, 0), 16) for _ in range(60)])
            equal({status for status, _ in answers} <= {0, INSUFFICIENT_RESOURCES}, True)
            equal(answers[0][0], 0)
            equal(answers[-1][0], INSUFFICIENT_RESOURCES)
        # Creations in a chain that do not end: each of them a handle.
        equal({status for status, _ in client.compound(*[(CREATE, create("sparse", READ_ATTRIBUTES)) for _ in range(200)])}, {0})
    # More elements than a message may have: the connection ends.
    with Client() as client:
        client.line.echo(client.session.session_id, credit_request=8192)
        client.send(*[(ECHO, struct.pack("<HH", 4, 0)) for _ in range(1000)])
        assert client.ended()
    # A chain whose links lead back, nowhere, or beyond.
    for following in (8, 64, 72, 1 << 31, 0xFFFFFFF8, 68):
        peer = stranger()
        peer.sendall(frame(header(ECHO, 1, following=following) + struct.pack("<HH", 4, 0) + bytes(4)))
        peer.settimeout(20)
        while answer(peer):
            pass
        peer.close()
    unharmed()
    bounded("compound bombs", before)


@case
def counts_that_lie():
    before = memory("VmRSS")
    with Client() as client:
        file = client.create("liar", ALL, OPEN_IF)
        huge = 0xFFFFFFFF
        for element in (
                (READ, read(file.handle, huge, 0)), (READ, read(file.handle, 1, (1 << 64) - 1)),
                (WRITE, struct.pack("<HHIQ", 49, 112, huge, 0) + file.handle + bytes(17)),
                (WRITE, write(file.handle, b"x", (1 << 63) - 1)), (WRITE, write(file.handle, b"x", (1 << 64) - 2)),
                (QUERY_INFO, query_info(file.handle, 4, room=huge)), (QUERY_INFO, query_info(file.handle, 255)),
                (SET_INFO, set_info(file.handle, 20, struct.pack("<Q", 1 << 63))), (SET_INFO, set_info(file.handle, 10, b"\xff" * 24)),
                (SET_INFO, set_info(file.handle, 0, struct.pack("<BBHIIII", 1, 0, 0x8004, huge, huge, huge, huge), 3, 0, )),
                (IOCTL, ioctl(file.handle, 0x1480F2, bytes(24) + struct.pack("<II", huge, 0))),
                (IOCTL, ioctl(file.handle, 0x9040CF, struct.pack("<QQ", 0, (1 << 63) - 1), huge)),
                (LOCK, struct.pack("<HHI", 48, 65535, 0) + file.handle + bytes(24)),
                (QUERY_DIRECTORY, query_directory(file.handle)),
                (CREATE, create("x" * 30_000)), (CREATE, create("a\\" * 5000)), (CREATE, create("..\\..\\etc")),
                (CREATE, create("x")[:30]), (CLOSE, close(b"\x01" * 16)), (CHANGE_NOTIFY, watching(file.handle, room=huge))):
            status = client.status(*element)
            assert status & 0x80000000 and status != 0xC00000E5, (element[0], hex(status))
        equal(client.get("liar"), b"")
    unharmed()
    bounded("counts that lie", before)


@case
def answers_that_nobody_reads():
    before = memory("VmRSS")
    with Client() as maker:
        maker.create("large", ALL, OVERWRITE_IF).set(20, struct.pack("<Q", 64 << 20))
    clients = []
    for _ in range(12):
        client = Client()
        for _ in range(10):
            client.line.echo(client.session.session_id, credit_request=8192)
        file = client.create("large", GENERIC_READ)
        client.wire.reads.clear()
        client.wire._sock.setblocking(False)
        # As much as it takes of what can be asked for.
        try:
            for index in range(200):
                client.send((READ, read(file.handle, 1 << 20, (index % 64) << 20), 16))
        except (BlockingIOError, OSError):
            pass
        clients.append(client)
    time.sleep(2)
    unharmed()
    bounded("answers that nobody reads", before)
    for client in clients:
        client.wire._sock.close()
        client.wire.reads.set()
    assert eventually(lambda: memory("VmRSS") < before + 300, 30), f"{memory('VmRSS'):.0f} MiB are kept"
    unharmed()


@case
def listings_that_are_held():
    before = memory("VmRSS")
    with Client() as client:
        client.mkdir("many")
        for index in range(2000):
            client.create(f"many\\entry {index} {'x' * 60}", READ_ATTRIBUTES, MAKE).close()
        for _ in range(10):
            client.line.echo(client.session.session_id, credit_request=8192)
        handles = []
        for _ in range(1000):
            folder = client.create("many", GENERIC_READ, OPEN, DIRECTORY)
            client.ask(QUERY_DIRECTORY, query_directory(folder.handle, room=1024))
            handles.append(folder)
        unharmed()
        # A pattern that is dear: names are short, and it is looked at by turns.
        costly = client.create("many", GENERIC_READ, OPEN, DIRECTORY)
        request = client.send((QUERY_DIRECTORY, query_directory(costly.handle, "*x" * 100 + "y")))[0]
        unharmed()
        assert client.answer(request)[0] in (NO_SUCH_FILE, 0xC0000033, INVALID_PARAMETER)
        bounded("listings that are held", before)
    unharmed()


@case
def handles_without_end():
    before = memory("VmRSS")
    with Client() as client:
        for _ in range(10):
            client.line.echo(client.session.session_id, credit_request=8192)
        client.put("held", b"x")
        opened = 0
        for _ in range(200):
            answers = client.compound(*[(CREATE, create("held", READ_ATTRIBUTES)) for _ in range(100)])
            opened += sum(1 for status, _ in answers if status == 0)
        print(f"  {opened} handles of one client", flush=True)
        unharmed()
        bounded("handles without end", before)
    unharmed()


@case
def who_comes_and_goes():
    before = memory("VmRSS")
    for _ in range(1500):
        peer = socket.create_connection((HOST, PORT))
        peer.sendall(frame(NEGOTIATION)[:40])
        peer.close()
    unharmed()
    bounded("who comes and goes", before)


run()
