"""impacket, pysmb and smbprotocol's own file functions: each does what its users do, on its own files and on those that came by
NFS and by S3; what it makes is looked at by those two."""
import hashlib
import io
import os
import uuid

import smbclient
from impacket.ldap.ldaptypes import SR_SECURITY_DESCRIPTOR
from impacket.smbconnection import SMBConnection, SessionError
from smb.SMBConnection import SMBConnection as PySMB
from smb.smb_structs import OperationFailure
from smbprotocol.change_notify import ChangeNotifyFlags, CompletionFilter, FileSystemWatcher
from smbprotocol.exceptions import SMBOSError
from smbprotocol.open import LockFlags, SMB2LockElement
from smbprotocol.open import Open as Opened

from support import *

nfs = NFS()
objects = s3()
nfs.mkdir("/trial")
objects.create_bucket(Bucket="bucket")
nfs.chmod("/bucket", 0o777)
# Of no bytes, of some, of more than one message holds.
BODIES = [b"", b"some bytes", os.urandom(3_000_017)]


def same_everywhere(path, body):
    """What lies there by NFS, by S3 and by SMB: bytes and size; and the times of the last write agree."""
    equal(nfs.get("/" + path), body)
    found = nfs.stat("/" + path)
    equal(found.size, len(body))
    bucket, _, key = path.partition("/")
    if bucket == "bucket":
        got = objects.get_object(Bucket=bucket, Key=key)
        equal(got["Body"].read(), body)
        equal(got["ContentLength"], len(body))
        equal(int(got["LastModified"].timestamp()), found.mtime)
    with Client() as client:
        file = client.create(path.replace("/", "\\"), GENERIC_READ)
        equal(file.size, len(body))
        equal(moment(file.written), (found.mtime, found.mtime_nsec // 100 * 100))
        file.close()
        equal(hashlib.sha256(client.get(path.replace("/", "\\"))).digest(), hashlib.sha256(body).digest())


def foreign(name):
    """Files made by the other two, for the library that asks: paths and bytes."""
    made = []
    for index, body in enumerate(BODIES):
        nfs.put(f"/bucket/{name}-nfs-{index}", body)
        objects.put_object(Bucket="bucket", Key=f"{name}-s3-{index}", Body=body)
        made += [(f"bucket/{name}-nfs-{index}", body), (f"bucket/{name}-s3-{index}", body)]
    return made


# ---- impacket

def impacket_client(dialect=None):
    client = SMBConnection("PROXYFS", HOST, sess_port=PORT, preferredDialect=dialect)
    client.login(USER, SECRET)
    return client


@case
def impacket_does_what_its_users_do():
    for dialect in (0x0202, 0x0210, 0x0300, 0x0311):
        client = impacket_client(dialect)
        equal(client.getDialect(), dialect)
        assert "default" in [share["shi1_netname"][:-1] for share in client.listShares()]
        folder = f"trial\\impacket-{dialect:x}"
        client.createDirectory("default", folder)
        for index, body in enumerate(BODIES):
            client.putFile("default", f"{folder}\\file{index}", io.BytesIO(body).read)
            back = io.BytesIO()
            client.getFile("default", f"{folder}\\FILE{index}", back.write)
            equal(back.getvalue(), body)
        client.rename("default", f"{folder}\\file1", f"{folder}\\renamed")
        names = {entry.get_longname(): entry.get_filesize() for entry in client.listPath("default", f"{folder}\\*")}
        equal({name: size for name, size in names.items() if name not in (".", "..")},
              {"file0": 0, "renamed": len(BODIES[1]), "file2": len(BODIES[2])})
        same_everywhere(f"trial/impacket-{dialect:x}/file2", BODIES[2])
        for name in ("file0", "renamed", "file2"):
            client.deleteFile("default", f"{folder}\\{name}")
        client.deleteDirectory("default", folder)
        client.close()


@case
def impacket_reads_what_others_made():
    client = impacket_client()
    for path, body in foreign("impacket"):
        back = io.BytesIO()
        client.getFile("default", path.replace("/", "\\"), back.write)
        equal(back.getvalue(), body)
    client.putFile("default", "bucket\\impacket-own", io.BytesIO(BODIES[2]).read)
    same_everywhere("bucket/impacket-own", BODIES[2])
    client.close()


@case
def impacket_has_streams_and_access_lists():
    client = impacket_client()
    tree = client.connectTree("default")
    stream = client.createFile(tree, "trial\\with:notes")
    client.writeFile(tree, stream, b"beside")
    client.closeFile(tree, stream)
    file = client.createFile(tree, "trial\\with", creationDisposition=1)
    equal(client.readFile(tree, file), b"")
    raw = client.getSMBServer()
    descriptor = SR_SECURITY_DESCRIPTOR(data=raw.queryInfo(tree, file, infoType=3, fileInfoClass=0, additionalInformation=7))
    assert descriptor["OwnerSid"].formatCanonical().startswith("S-1-5-21-"), descriptor["OwnerSid"].formatCanonical()
    assert len(descriptor["Dacl"]["Data"]) > 0
    client.closeFile(tree, file)
    stream = client.createFile(tree, "trial\\with:NOTES", creationDisposition=1)
    equal(client.readFile(tree, stream), b"beside")
    client.closeFile(tree, stream)
    client.deleteFile("default", "trial\\with")
    client.close()


@case
def impacket_is_refused_with_a_wrong_secret():
    client = SMBConnection("PROXYFS", HOST, sess_port=PORT)
    try:
        client.login(USER, "wrong")
    except SessionError as failure:
        equal(failure.getErrorCode(), LOGON_FAILURE)
    else:
        raise AssertionError("a wrong secret was taken")
    client.close()


# ---- pysmb

def pysmb_client(secret=SECRET):
    client = PySMB(USER, secret, "client", "PROXYFS", use_ntlm_v2=True, is_direct_tcp=True)
    assert client.connect(HOST, PORT) == (secret == SECRET)
    return client


@case
def pysmb_does_what_its_users_do():
    client = pysmb_client()
    assert client.isUsingSMB2
    assert "default" in [share.name for share in client.listShares()]
    client.createDirectory("default", "trial/pysmb")
    for index, body in enumerate(BODIES):
        equal(client.storeFile("default", f"trial/pysmb/file{index}", io.BytesIO(body)), len(body))
        back = io.BytesIO()
        client.retrieveFile("default", f"trial/pysmb/FILE{index}", back)
        equal(back.getvalue(), body)
    client.rename("default", "trial/pysmb/file1", "trial/pysmb/renamed")
    found = {entry.filename: entry.file_size for entry in client.listPath("default", "trial/pysmb")}
    equal({name: size for name, size in found.items() if name not in (".", "..")},
          {"file0": 0, "renamed": len(BODIES[1]), "file2": len(BODIES[2])})
    same_everywhere("trial/pysmb/file2", BODIES[2])
    equal(client.getAttributes("default", "trial/pysmb/renamed").file_size, len(BODIES[1]))
    client.setLastWriteTime("default", "trial/pysmb/renamed", 1_000_000_000)
    equal(nfs.stat("/trial/pysmb/renamed").mtime, 1_000_000_000)
    assert client.getSecurity("default", "trial/pysmb/renamed").owner is not None
    equal(client.echo(b"hello"), b"hello")
    client.storeFile("default", "trial/pysmb/renamed:notes", io.BytesIO(b"beside"))
    back = io.BytesIO()
    client.retrieveFile("default", "trial/pysmb/renamed:notes", back)
    equal(back.getvalue(), b"beside")
    try:
        client.retrieveFile("default", "trial/pysmb/nothing", io.BytesIO())
    except OperationFailure:
        pass
    else:
        raise AssertionError("a file that is not there was read")
    client.deleteFiles("default", "trial/pysmb/*")
    client.deleteDirectory("default", "trial/pysmb")
    client.close()
    pysmb_client("wrong").close()


@case
def pysmb_reads_what_others_made():
    client = pysmb_client()
    for path, body in foreign("pysmb"):
        back = io.BytesIO()
        attributes, count = client.retrieveFile("default", path, back)
        equal((back.getvalue(), count), (body, len(body)))
        same_everywhere(path, body)
    client.storeFile("default", "bucket/pysmb-own", io.BytesIO(BODIES[2]))
    same_everywhere("bucket/pysmb-own", BODIES[2])
    client.close()


# ---- smbprotocol

ROOT = rf"\\{HOST}\default"
WAY = {"username": USER, "password": SECRET, "port": PORT, "auth_protocol": "ntlm", "connection_cache": {}}


@case
def smbprotocol_does_what_its_users_do():
    folder = ROOT + r"\trial\smbprotocol"
    smbclient.mkdir(folder, **WAY)
    for index, body in enumerate(BODIES):
        with smbclient.open_file(rf"{folder}\file{index}", mode="wb", **WAY) as file:
            file.write(body)
        with smbclient.open_file(rf"{folder}\FILE{index}", mode="rb", **WAY) as file:
            equal(file.read(), body)
    smbclient.rename(folder + r"\file1", folder + r"\renamed", **WAY)
    equal(sorted(smbclient.listdir(folder, **WAY)), ["file0", "file2", "renamed"])
    same_everywhere("trial/smbprotocol/file2", BODIES[2])
    found = smbclient.stat(folder + r"\file2", **WAY)
    by_nfs = nfs.stat("/trial/smbprotocol/file2")
    equal((found.st_size, int(found.st_mtime), found.st_ino), (by_nfs.size, by_nfs.mtime, by_nfs.ino))
    smbclient.utime(folder + r"\file2", times=(1_200_000_000, 1_300_000_000), **WAY)
    equal((nfs.stat("/trial/smbprotocol/file2").atime, nfs.stat("/trial/smbprotocol/file2").mtime), (1_200_000_000, 1_300_000_000))
    smbclient.truncate(folder + r"\file2", 10, **WAY)
    equal(nfs.get("/trial/smbprotocol/file2"), BODIES[2][:10])
    smbclient.link(folder + r"\file2", folder + r"\linked", **WAY)
    equal(nfs.stat("/trial/smbprotocol/linked").nlink, 2)
    smbclient.replace(folder + r"\linked", folder + r"\renamed", **WAY)
    with smbclient.open_file(folder + r"\renamed:notes", mode="wb", **WAY) as file:
        file.write(b"beside")
    equal(nfs.get("/trial/smbprotocol/renamed"), BODIES[2][:10])
    try:
        smbclient.stat(folder + r"\nothing", **WAY)
    except SMBOSError as failure:
        equal(failure.ntstatus, OBJECT_NAME_NOT_FOUND)
    else:
        raise AssertionError("a file that is not there was seen")
    for name in smbclient.listdir(folder, **WAY):
        smbclient.remove(rf"{folder}\{name}", **WAY)
    smbclient.rmdir(folder, **WAY)


@case
def smbprotocol_reads_what_others_made():
    for path, body in foreign("smbprotocol"):
        with smbclient.open_file(ROOT + "\\" + path.replace("/", "\\"), mode="rb", **WAY) as file:
            equal(file.read(), body)
    with smbclient.open_file(ROOT + r"\bucket\smbprotocol-own", mode="wb", **WAY) as file:
        file.write(BODIES[2])
    same_everywhere("bucket/smbprotocol-own", BODIES[2])


@case
def every_dialect_and_cipher():
    for dialect in (Dialects.SMB_2_0_2, Dialects.SMB_2_1_0, Dialects.SMB_3_0_0, Dialects.SMB_3_0_2, Dialects.SMB_3_1_1):
        for encrypt in (False, True):
            if encrypt and dialect < Dialects.SMB_3_0_0:
                continue
            with Client(dialect=dialect, encrypt=encrypt) as client:
                equal(client.line.dialect, dialect)
                client.put("trial\\d", BODIES[2] if dialect > Dialects.SMB_2_0_2 else BODIES[1])
                assert client.get("trial\\D")
                client.remove("trial\\d")
    for cipher in (1, 2, 3, 4):
        with Client(encrypt=True, encryption=[cipher]) as client:
            equal(client.line.cipher_id, cipher)
            client.put("trial\\c", BODIES[2])
            equal(client.get("trial\\c"), BODIES[2])
    for algorithm in (0, 1, 2):
        with Client(signing=[algorithm]) as client:
            equal(client.line.signing_algorithm_id, algorithm)
            client.put("trial\\c", BODIES[2])
            equal(client.get("trial\\c"), BODIES[2])


@case
def locks_bind_and_wait():
    with Client() as one, Client() as two:
        one.put("trial\\locked", b"0123456789")
        mine, theirs = one.create("trial\\locked"), two.create("trial\\locked")
        one.ask(LOCK, lock(mine.handle, (0, 5, 2 | 16)))
        equal(two.status(LOCK, lock(theirs.handle, (4, 1, 2 | 16))), LOCK_NOT_GRANTED)
        equal(two.status(READ, read(theirs.handle, 5, 0)), FILE_LOCK_CONFLICT)
        equal(two.status(WRITE, write(theirs.handle, b"x", 4)), FILE_LOCK_CONFLICT)
        equal(theirs.read(5, 5), b"56789")
        # The library's own message, which waits.
        waiting = SMB2LockElement()
        waiting["offset"], waiting["length"], waiting["flags"] = 0, 5, LockFlags.SMB2_LOCKFLAG_EXCLUSIVE_LOCK
        opened = Opened(two.tree, "trial\\locked")
        opened._connected, opened.file_id = True, theirs.handle
        request, _ = opened.lock([waiting], send=False)
        asked = two.line.send(request, two.session.session_id, two.tree.tree_connect_id)
        assert two.pending(asked)
        one.ask(LOCK, lock(mine.handle, (0, 5, 4)))
        equal(two.answer(asked)[0], 0)
        theirs.write(b"x", 4)
        # Others neither read nor write what is locked, by whatever way they come.
        equal(Calls().read("/trial/locked", 5), Calls.JUKEBOX)
        equal(Calls().write("/trial/locked", b"y"), Calls.JUKEBOX)
        theirs.close()
        equal(nfs.get("/trial/locked"), b"0123x56789")


@case
def watches_tell():
    with Client() as one, Client() as two:
        one.mkdir("trial\\watched")
        one.mkdir("trial\\watched\\deep")
        place = Opened(one.tree, "trial\\watched")
        watched_place = one.create("trial\\watched", GENERIC_READ, OPEN, DIRECTORY)
        place._connected, place.file_id = True, watched_place.handle
        watcher = FileSystemWatcher(place)
        watcher.start(CompletionFilter.FILE_NOTIFY_CHANGE_FILE_NAME, ChangeNotifyFlags.SMB2_WATCH_TREE)
        two.put("trial\\watched\\deep\\file", b"x")
        found = watcher.wait()
        equal([(each["action"].get_value(), each["file_name"].get_value()) for each in found], [(1, "deep\\file")])


@case
def access_lists_bind_and_agree():
    with Client() as one, Client(user=OTHER, secret=OTHER_SECRET) as two:
        one.put("trial\\guarded", b"secret")
        two.get("trial\\guarded")
        file = one.create("trial\\guarded", READ_CONTROL | WRITE_DAC | READ_ATTRIBUTES)
        descriptor = SR_SECURITY_DESCRIPTOR(data=file.info(0, kind=3, additional=7))
        owner = descriptor["OwnerSid"].formatCanonical()
        # Of the owner alone.
        entry = b"\0\0" + struct.pack("<HI", 8 + len(descriptor["OwnerSid"].getData()), ALL) + descriptor["OwnerSid"].getData()
        acl = struct.pack("<BBHHH", 2, 0, 8 + len(entry), 1, 0) + entry
        file.set(0, struct.pack("<BBHIIII", 1, 0, 0x8004, 0, 0, 0, 20) + acl, kind=3, additional=4)
        again = SR_SECURITY_DESCRIPTOR(data=file.info(0, kind=3, additional=7))
        equal(again["OwnerSid"].formatCanonical(), owner)
        equal([(each["AceType"], each["Ace"]["Mask"]["Mask"], each["Ace"]["Sid"].formatCanonical()) for each in again["Dacl"]["Data"]],
              [(0, ALL, owner)])
        file.close()
        try:
            two.get("trial\\guarded")
        except Status as failure:
            equal(failure.status, ACCESS_DENIED)
        else:
            raise AssertionError("the list of a file was not asked")
        equal(nfs.stat("/trial/guarded").mode & 0o077, 0)
        try:
            NFS(uid=54321).get("/trial/guarded")
        except PermissionError:
            pass
        else:
            raise AssertionError("the list of a file was not asked by NFS")


run()
