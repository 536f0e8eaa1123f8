"""One file system by several ways: what one client holds binds those of the other protocols, and what they do is told to it."""
import os
import subprocess
import tempfile
import threading

from botocore.exceptions import ClientError

from support import *

nfs = NFS()
objects = s3()
objects.create_bucket(Bucket="bucket")
nfs.chmod("/bucket", 0o777)
KEY = b"a lease's key .."


def leased(client, name, state=7):
    file = client.create(name, GENERIC_READ | GENERIC_WRITE | DELETE, OPEN_IF, contexts=[lease(KEY, state)], oplock=0xFF)
    equal(struct.unpack_from("<I", file.contexts[b"RqLs"], 16)[0], state)
    return file


def broken(client, before, after, work):
    """While `work` goes on the lease is broken, and it ends once that is acknowledged."""
    thread = threading.Thread(target=work)
    thread.start()
    message = client.wire.breaks.get(timeout=20)
    equal(struct.unpack_from("<H", message, 12)[0], OPLOCK_BREAK)
    size, epoch, flags = struct.unpack_from("<HHI", message, 64)
    key, (old, new) = message[72:88], struct.unpack_from("<II", message, 88)
    equal((size, key, old, new), (44, KEY, before, after))
    if flags & 1:
        time.sleep(0.3)
        assert thread.is_alive(), "it did not wait for the client's answer"
        client.ask(OPLOCK_BREAK, struct.pack("<HHI", 36, 0, 0) + KEY + struct.pack("<IQ", after, 0))
    thread.join(20)
    assert not thread.is_alive(), "it waits for ever"
    return flags & 1


@case
def an_nfs_write_breaks_a_lease():
    with Client() as client:
        client.put("bucket\\leased", b"0123456789")
        file = leased(client, "bucket\\leased")
        equal(broken(client, 7, 0, lambda: nfs.write("/bucket/leased", b"NFS", 2)), 1)
        equal(file.read(10), b"01NFS56789")
        equal(nfs.get("/bucket/leased"), b"01NFS56789")


@case
def an_nfs_read_breaks_a_lease_to_write():
    with Client() as client:
        client.put("bucket\\cached", b"0123456789")
        file = leased(client, "bucket\\cached")
        read = []
        broken(client, 7, 3, lambda: read.append(nfs.get("/bucket/cached")))
        equal(read, [b"0123456789"])
        file.close()


@case
def an_s3_put_breaks_a_lease():
    with Client() as client:
        client.put("bucket\\replaced", b"before")
        leased(client, "bucket\\replaced")
        done = []

        def put():
            try:
                objects.put_object(Bucket="bucket", Key="replaced", Body=b"after")
                done.append(200)
            except ClientError as failure:
                done.append(failure.response["ResponseMetadata"]["HTTPStatusCode"])

        thread = threading.Thread(target=put)
        thread.start()
        message = client.wire.breaks.get(timeout=20)
        old, new = struct.unpack_from("<II", message, 88)
        assert not new & 2, "a lease on the handle is left although the name goes elsewhere"
        if struct.unpack_from("<I", message, 68)[0] & 1:
            client.ask(OPLOCK_BREAK, struct.pack("<HHI", 36, 0, 0) + KEY + struct.pack("<IQ", new, 0))
        thread.join(20)
        equal(done, [200])
        equal(client.get("bucket\\replaced"), b"after")


@case
def an_s3_read_breaks_a_lease_to_write():
    with Client() as client:
        client.put("bucket\\cached-by-s3", b"0123456789")
        objects.copy_object(Bucket="bucket", Key="copied", CopySource="bucket/cached-by-s3")
        for read in (
            lambda: objects.get_object(Bucket="bucket", Key="cached-by-s3")["Body"].read(),
            lambda: objects.copy_object(Bucket="bucket", Key="copied", CopySource="bucket/cached-by-s3"),
        ):
            file = leased(client, "bucket\\cached-by-s3")
            found = []
            broken(client, 7, 3, lambda: found.append(read()))
            equal(len(found), 1)
            file.close()
        equal(objects.get_object(Bucket="bucket", Key="copied")["Body"].read(), b"0123456789")


def refused(work):
    try:
        work()
    except ClientError as failure:
        equal(failure.response["ResponseMetadata"]["HTTPStatusCode"], 409)
    else:
        raise AssertionError("a request came through")


@case
def a_denied_read_holds_off_s3():
    with Client() as client:
        client.put("bucket\\kept", b"0123456789")
        file = client.create("bucket\\kept", GENERIC_READ, share=0)
        refused(lambda: objects.get_object(Bucket="bucket", Key="kept"))
        refused(lambda: objects.copy_object(Bucket="bucket", Key="other", CopySource="bucket/kept"))
        file.close()
        equal(objects.get_object(Bucket="bucket", Key="kept")["Body"].read(), b"0123456789")


@case
def a_denied_write_holds_off_nfs_and_s3():
    with Client() as client:
        client.put("bucket\\denied", b"0123456789")
        file = client.create("bucket\\denied", GENERIC_READ, share=SHARE_READ)
        equal(Calls().write("/bucket/denied", b"NFS"), Calls.JUKEBOX)
        try:
            objects.put_object(Bucket="bucket", Key="denied", Body=b"S3")
        except ClientError as failure:
            equal(failure.response["ResponseMetadata"]["HTTPStatusCode"], 409)
        else:
            raise AssertionError("a PUT came through")
        try:
            objects.delete_object(Bucket="bucket", Key="denied")
        except ClientError as failure:
            equal(failure.response["ResponseMetadata"]["HTTPStatusCode"], 409)
        else:
            raise AssertionError("a DELETE came through")
        equal(file.read(10), b"0123456789")
        equal(nfs.get("/bucket/denied"), b"0123456789")
        file.close()
        objects.put_object(Bucket="bucket", Key="denied", Body=b"S3")
        nfs.write("/bucket/denied", b"N")
        equal(client.get("bucket\\denied"), b"N3")


@case
def a_lock_holds_off_others():
    with Client() as client:
        client.put("bucket\\locked", b"0123456789")
        file = client.create("bucket\\locked")
        client.ask(LOCK, lock(file.handle, (2, 3, 2 | 16)))
        try:
            objects.put_object(Bucket="bucket", Key="locked", Body=b"S3")
        except ClientError as failure:
            equal(failure.response["ResponseMetadata"]["HTTPStatusCode"], 409)
        else:
            raise AssertionError("a PUT went over a lock")
        # Bytes 2 to 4 are somebody's alone; the others are everybody's.
        refused(lambda: objects.get_object(Bucket="bucket", Key="locked"))
        refused(lambda: objects.get_object(Bucket="bucket", Key="locked", Range="bytes=0-2"))
        equal(objects.get_object(Bucket="bucket", Key="locked", Range="bytes=5-9")["Body"].read(), b"56789")
        file.close()
        objects.put_object(Bucket="bucket", Key="locked", Body=b"S3")


@case
def an_s3_put_wakes_a_watch():
    with Client() as client:
        folder = client.create("bucket", GENERIC_READ, OPEN, DIRECTORY)

        def told(work):
            request = client.send((CHANGE_NOTIFY, watching(folder.handle, 0x17F)))[0]
            assert client.pending(request)
            work()
            status, data = client.answer(request)
            equal(status, 0)
            return watched(data)

        assert (1, "told") in told(lambda: objects.put_object(Bucket="bucket", Key="told", Body=b"one"))
        assert "told" in [name for _, name in told(lambda: objects.put_object(Bucket="bucket", Key="told", Body=b"two"))]
        assert (2, "told") in told(lambda: objects.delete_object(Bucket="bucket", Key="told"))
        assert (1, "by-nfs") in told(lambda: nfs.put("/bucket/by-nfs", b""))
        assert (4, "by-nfs") in told(lambda: nfs.rename("/bucket/by-nfs", "/bucket/moved"))
        folder.close()


@case
def smbclient_has_what_others_made():
    """And they have what it makes."""
    data = os.urandom(3 << 20)
    nfs.put("/bucket/by nfs", data)
    objects.put_object(Bucket="bucket", Key="by/s3", Body=data)
    with tempfile.TemporaryDirectory() as folder:
        def smbclient(*commands):
            run = subprocess.run(
                ["smbclient", "//127.0.0.1/default", "-p", os.environ["SMB_PORT"], "-U", "torture%secret", "-D", "bucket",
                 "-c", "; ".join(commands)],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            assert run.returncode == 0, run.stdout + run.stderr
            return run.stdout

        def made(name):
            with open(os.path.join(folder, name), "rb") as file:
                return file.read()

        smbclient("lcd " + folder, 'get "by nfs" one', "get by\\s3 two", "put one back", 'rename "by nfs" renamed')
        equal(made("one"), data)
        equal(made("two"), data)
        assert "renamed" in smbclient("ls")
    equal(nfs.get("/bucket/renamed"), data)
    equal(objects.get_object(Bucket="bucket", Key="back")["Body"].read(), data)


@case
def names_are_the_same_by_every_way():
    with Client() as client:
        for name in ("plain", "Grün", "дом", "日本", "a b", "x" * 200):
            client.put(f"bucket\\{name}", name.encode())
            equal(nfs.get(f"/bucket/{name}"), name.encode())
            equal(objects.get_object(Bucket="bucket", Key=name)["Body"].read(), name.encode())
            assert name in client.names("bucket")
            equal(client.get(f"bucket\\{name.upper()}"), name.encode())
            nfs.remove(f"/bucket/{name}")
            assert not client.exists(f"bucket\\{name}")
        # What Windows can not write, is there, can be read, and keeps its name.
        for name in ("what?", "a:b", "c*", "back\\slash", "dot."):
            nfs.put(f"/bucket/{name}", b"odd")
        shown = [entry for entry in client.names("bucket") if any(0xF000 <= ord(letter) < 0xF100 for letter in entry)]
        equal(len(shown), 5)
        for name in shown:
            equal(client.get(f"bucket\\{name}"), b"odd")
            client.remove(f"bucket\\{name}")
        for name in ("what?", "a:b", "c*", "back\\slash", "dot."):
            try:
                nfs.stat(f"/bucket/{name}")
            except FileNotFoundError:
                continue
            raise AssertionError(f"{name} is still there")


@case
def an_open_file_outlives_its_name():
    with Client() as client:
        client.put("bucket\\gone", b"kept")
        file = client.create("bucket\\gone", GENERIC_READ)
        objects.delete_object(Bucket="bucket", Key="gone")
        equal(file.read(4), b"kept")
        assert not client.exists("bucket\\gone")
        file.close()


@case
def times_and_sizes_agree_at_once():
    with Client() as client:
        file = client.create("bucket\\watched-size", ALL, OPEN_IF)
        for size in (0, 1, 65_537, 1_000_000):
            file.write(b"x" * 7, size)
            equal(nfs.stat("/bucket/watched-size").size, size + 7)
            equal(objects.head_object(Bucket="bucket", Key="watched-size")["ContentLength"], size + 7)
        # Setting: creation, access, write, change; zero changes nothing.
        file.set(4, struct.pack("<QQQQII", 0, 0, int((1_500_000_000.5 + 11644473600) * 1e7), 0, 0, 0))
        found = nfs.stat("/bucket/watched-size")
        equal((found.mtime, found.mtime_nsec), (1_500_000_000, 500_000_000))
        equal(objects.head_object(Bucket="bucket", Key="watched-size")["LastModified"].timestamp(), 1_500_000_000)
        file.close()


run()
