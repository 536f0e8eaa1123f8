"""Whoever sits between a client and the server, or comes without what is demanded: nothing of it is believed."""
import logging

from smbprotocol.exceptions import SMBException

from support import *

# The library tells of each connection that ends, and here they are to end.
logging.disable(logging.CRITICAL)
FAILURES = (SMBException, Status, ValueError, OSError, AttributeError, TypeError)

with Client() as first:
    first.put("file", b"untouched")


def command(message):
    return struct.unpack_from("<H", message, 12)[0]


def flipped(message, bit):
    changed = bytearray(message)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def refused(work):
    try:
        work()
    except FAILURES:
        return True
    return False


def untouched():
    with Client() as client:
        equal(client.get("file"), b"untouched")


@case
def what_must_be_sealed_is_not_served_in_the_clear():
    with Client("sealed") as client:
        assert client.tree.encrypt_data
        client.put("sealed-file", b"secret")
        equal(client.get("sealed-file"), b"secret")
        client.tree.encrypt_data = False
        for element in ((CREATE, create("sealed-file", GENERIC_READ)), (CREATE, create("new", ALL, MAKE)),
                        (QUERY_INFO, query_info(bytes(16), 4)), (TREE_DISCONNECT, struct.pack("<HH", 4, 0))):
            equal(client.status(*element), ACCESS_DENIED)
        client.tree.encrypt_data = True
        assert not client.exists("new")
    # Who can not seal does not come in.
    for dialect in (Dialects.SMB_2_0_2, Dialects.SMB_2_1_0):
        try:
            Client("sealed", dialect=dialect)
        except SMBResponseException as failure:
            equal(failure.header["status"].get_value(), ACCESS_DENIED)
        else:
            raise AssertionError(f"{dialect:x} was let in")
    # A handle of the sealed share is none of a share that is open: the tree counts, not the handle.
    with Client("sealed") as client:
        file = client.create("sealed-file", GENERIC_READ)
        client.connect("default")
        equal(client.status(READ, read(file.handle, 6, 0)) != 0, True)


@case
def what_must_be_signed_is_refused_unsigned():
    for dialect in (Dialects.SMB_2_1_0, Dialects.SMB_3_0_0, Dialects.SMB_3_1_1):
        with Client(dialect=dialect) as client:
            client.session.signing_required = False
            equal(client.status(CREATE, create("file", GENERIC_READ)), ACCESS_DENIED)
            equal(client.status(CREATE, create("file", DELETE, OPEN, DELETE_ON_CLOSE)), ACCESS_DENIED)
            client.session.signing_required = True
            equal(client.get("file"), b"untouched")


def tampered(change, **way):
    """A client some of whose messages are changed on their way, once it says so."""
    state = {"armed": False}

    def sending(message):
        return change(message) if state["armed"] else message

    client = Client(sending=sending, **way)
    return client, state


@case
def a_signed_message_that_was_changed_ends_the_connection():
    for algorithm in (0, 1, 2):
        # The command's own bytes, the handle that it names, its data, its signature: a bit each.
        for place in (14, 24 + 7, 48, 63, 64, 64 + 8, 64 + 20, -1):
            def change(message):
                return flipped(message, (place % len(message)) * 8 + 3)

            client, state = tampered(change, signing=[algorithm])
            file = client.create("file", GENERIC_READ | GENERIC_WRITE)
            state["armed"] = True
            client.send((WRITE, write(file.handle, b"TAMPERED", 0)))
            assert client.ended(), f"algorithm {algorithm}, byte {place}: the connection goes on"
            client.close()
    untouched()


@case
def a_sealed_message_that_was_changed_ends_the_connection():
    for cipher in (1, 2, 3, 4):
        # The tag, the nonce, the length, the session's number, what is sealed at its begin and end.
        for place in (4, 19, 20, 36, 44, 52, 116, -1):
            def change(message):
                return flipped(message, (place % len(message)) * 8 + 5)

            client, state = tampered(change, encrypt=True, encryption=[cipher])
            file = client.create("file", GENERIC_READ | GENERIC_WRITE)
            state["armed"] = True
            request = client.send((WRITE, write(file.handle, b"TAMPERED", 0)))[0]
            assert client.ended(), f"cipher {cipher}, byte {place}: the connection goes on"
            equal(request.response, None)
            client.close()
    untouched()


@case
def one_session_does_not_speak_for_another():
    # Sealed by one's own keys, but in the name of another's session inside.
    with Client() as victim:
        def change(message):
            return message

        client, _ = tampered(change, encrypt=True, user=OTHER, secret=OTHER_SECRET)
        original = client.line._encrypt
        stolen = struct.pack("<Q", victim.session.session_id)
        client.line._encrypt = lambda data, session: original(data[:40] + stolen + data[48:], session)
        assert refused(lambda: client.ask(CREATE, create("file", GENERIC_READ | DELETE, OPEN, DELETE_ON_CLOSE))), \
            "it was served in another's name"
        client.close()
        equal(victim.get("file"), b"untouched")


def between(change, **way):
    """Somebody changes the client's NEGOTIATE."""
    def sending(message):
        return change(message) if message[:4] == b"\xfeSMB" and command(message) == NEGOTIATE else message

    return lambda: Client(sending=sending, **way)


def without_dialects(*unwanted):
    """The list, with other dialects in the place of those."""
    def change(message):
        count = struct.unpack_from("<H", message, 66)[0]
        changed = bytearray(message)
        for index in range(count):
            at = 100 + index * 2
            if struct.unpack_from("<H", changed, at)[0] in unwanted:
                struct.pack_into("<H", changed, at, 0x0202)
        return bytes(changed)
    return change


@case
def a_negotiation_that_was_changed_is_found_out():
    def patched(place, value):
        return lambda message: message[:place] + value + message[place + len(value):]

    # Told again and signed, in the dialects before the last.
    later = {"dialect": Dialects.SMB_3_0_2}
    assert not refused(lambda: Client(**later).close())
    for name, change, way in (
            ("3.1.1 taken away", without_dialects(0x0311), {}),
            ("3.x taken away", without_dialects(0x0311, 0x0302, 0x0300), {}),
            ("capabilities", patched(72, struct.pack("<I", 0)), later),
            ("mode", patched(68, struct.pack("<H", 1)), later),
            ("number of the client", patched(76, b"somebody else's."), later)):
        assert refused(between(change, **way)), f"{name}: nobody noticed"
    untouched()


@case
def an_answer_to_a_changed_question_ends_the_connection():
    # The server itself ends it: the client's own checks are switched off.
    for place in (2, 4, 24):
        with Client(dialect=Dialects.SMB_3_0_2) as client:
            line = client.line
            told = bytearray(struct.pack("<I", line.client_capabilities) + line.client_guid.bytes
                             + struct.pack("<HHH", line.client_security_mode, 1, 0x0302))
            body = ioctl(LAST, 0x140204, bytes(told), 24)
            if place == 2:
                equal(client.status(IOCTL, body), 0)
            told[place] ^= 1
            client.send((IOCTL, ioctl(LAST, 0x140204, bytes(told), 24)))
            assert client.ended(), f"byte {place}: the connection goes on"


@case
def the_hash_over_the_negotiation_counts():
    # 3.1.1: keys come from the hash over all that was said; a bit that is changed makes others of them.
    for place in (76, 100, -40, -1):
        def change(message):
            if place >= 0:
                return flipped(message, place * 8) if place == 76 else message + bytes(8)
            return flipped(message, (len(message) + place) * 8)

        assert refused(between(change)), f"byte {place}: the log-on went on"
    # And the server does not believe keys of another hash either.
    class Credulous(Line):
        def verify_signature(self, *_, **__):
            pass

    def salted(message):
        # Somewhere in the salt, which means nothing but to the hash.
        start = struct.unpack_from("<I", message, 92)[0]
        return flipped(message, (start + 8 + 6 + 3) * 8)

    Wire.hooks = (lambda message: salted(message) if command(message) == NEGOTIATE else message, None)
    try:
        line = Credulous(uuid.uuid4(), HOST, PORT)
        line.connect(timeout=20)
    finally:
        Wire.hooks = (None, None)
    equal(line.dialect, Dialects.SMB_3_1_1)
    session = Session(line, USER, SECRET, require_encryption=False, auth_protocol="ntlm")
    session.connect()
    tree = TreeConnect(session, rf"\\{HOST}\default")
    assert refused(tree.connect), "a tree was given to who has other keys"
    assert eventually(lambda: not line.transport.connected), "the connection goes on"


@case
def a_tree_is_asked_for_with_a_signature():
    # In 3.1.1 this is what proves to the server that nobody changed the negotiation.
    with Client(tree=False, sign=False) as client:
        tree = TreeConnect(client.session, rf"\\{HOST}\default")
        assert refused(tree.connect), "an unsigned request for a tree was served"
        assert client.ended(), "the connection goes on"


@case
def nothing_comes_before_the_negotiation():
    import socket
    header = b"\xfeSMB" + struct.pack("<HHIHHIIQIIQ", 64, 1, 0, SESSION_SETUP, 1, 0, 0, 0, 0, 0, 0) + bytes(16)
    setup = header + struct.pack("<HBBIIHHQ", 25, 0, 1, 0, 0, 88, 32, 0) + b"NTLMSSP\0\1\0\0\0" + bytes(20)
    with socket.create_connection((HOST, PORT)) as peer:
        peer.settimeout(10)
        peer.sendall(struct.pack(">I", len(setup)) + setup)
        data = peer.recv(4096)
        assert not data or struct.unpack_from("<I", data, 12)[0] == INVALID_PARAMETER, data
        while data:
            data = peer.recv(4096)
    # Nor twice.
    with Client() as client:
        again = struct.pack("<HHHHI", 36, 1, 1, 0, 0) + uuid.uuid4().bytes + bytes(8) + struct.pack("<H", 0x0210)
        client.send((NEGOTIATE, again))
        assert client.ended()


def busy(client):
    """All kinds of answers: at once, late, cancelled, refused, in chains."""
    for index in range(50):
        folder = client.create("", GENERIC_READ, OPEN, DIRECTORY)
        request = client.send((CHANGE_NOTIFY, watching(folder.handle)))[0]
        assert client.pending(request)
        if index % 2:
            client.put(f"noise-{index}", b"x")
            equal(client.answer(request)[0], 0)
            client.remove(f"noise-{index}")
        else:
            request.cancel()
            equal(client.answer(request)[0], CANCELLED)
        client.compound((CREATE, create("file", READ_ATTRIBUTES)), (QUERY_INFO, query_info(LAST, 4)), (CLOSE, close(LAST)))
        equal(client.status(CREATE, create("nothing", READ_ATTRIBUTES)), OBJECT_NAME_NOT_FOUND)
        folder.close()


@case
def no_nonce_is_used_twice():
    # Of signatures: the message's number, whose it is, and whether it cancels.
    seen = {}

    def receiving(message):
        rest = message
        while rest[:4] == b"\xfeSMB":
            following, flags = struct.unpack_from("<I", rest, 20)[0], struct.unpack_from("<I", rest, 16)[0]
            part = rest[:following] if following else rest
            if flags & 8:
                number = part[24:32]
                assert seen.setdefault(number, part) == part, f"two signatures with the number {number.hex()}"
            rest = rest[following:] if following else b""
        return message

    with Client(signing=[2], receiving=receiving) as client:
        busy(client)
        assert client.line.signing_algorithm_id == 2 and len(seen) > 200, len(seen)
    for cipher in (1, 2, 3, 4):
        nonces = []

        def sealed(message):
            if message[:4] == b"\xfdSMB":
                nonces.append(message[20:36])
            return message

        with Client(encrypt=True, encryption=[cipher], receiving=sealed) as client:
            busy(client)
        equal(len(set(nonces)), len(nonces))
        assert len(nonces) > 200, len(nonces)


@case
def an_old_message_comes_again_in_vain():
    """A message recorded and sent once more, signed or sealed as it is: its number is used up, and the connection ends."""
    for way in ({}, {"encrypt": True}):
        recorded = []
        client = Client(sending=lambda message: recorded.append(message) or message, **way)
        client.put("replayed", b"one")
        at = len(recorded)
        client.put("replayed", b"two")
        Tcp.send(client.wire, recorded[at])
        assert client.ended(), "a message of before was taken"
        client.close()
        with Client() as other:
            equal(other.get("replayed"), b"two")


@case
def secrets_are_guessed_slowly():
    begin = time.monotonic()
    failures = 0
    for _ in range(8):
        try:
            Client(user="torture", secret="guess")
        except FAILURES:
            failures += 1
    equal(failures, 8)
    assert time.monotonic() - begin > 1, "eight guesses in no time"
    # Whoever knows it, gets in.
    untouched()


run()
