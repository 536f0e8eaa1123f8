"""Mounts as clients see them: a directory of the host, another volume and a bind, by SMB, NFS and S3 at once."""
import subprocess

from botocore.exceptions import ClientError

from support import *

nfs = NFS()
objects = s3()
objects.create_bucket(Bucket="m")
nfs.chmod("/m", 0o777)
HOST_FOLDER = os.path.join(os.path.dirname(DATA), "host")
NOT_SAME_DEVICE, WRITE_PROTECTED = 0xC00000D4, 0xC00000A2
XDEV, ROFS, STALE = 18, 30, 70

os.mkdir(HOST_FOLDER)
os.chmod(HOST_FOLDER, 0o777)
proxyfs("volume", "create", "photos")
nfs.mkdir("/real")
proxyfs("volume", "mount", "/default/m/host", "--directory", HOST_FOLDER)
proxyfs("volume", "mount", "/default/m/guest", "--volume", "photos")
proxyfs("volume", "mount", "/default/m/bind", "--bind", "/default/real")
nfs.chmod("/m/guest", 0o777)
KINDS = ("host", "guest", "bind")


@case
def what_one_writes_all_read():
    with Client() as client:
        for kind in KINDS:
            for size in (5, 300_000, 1_500_000):
                body = os.urandom(size)
                client.put(f"m\\{kind}\\smb-{size}", body)
                equal(nfs.get(f"/m/{kind}/smb-{size}"), body)
                equal(objects.get_object(Bucket="m", Key=f"{kind}/smb-{size}")["Body"].read(), body)
                nfs.put(f"/m/{kind}/nfs-{size}", body[::-1])
                equal(client.get(f"m\\{kind}\\nfs-{size}"), body[::-1])
            equal(sorted(client.names(f"m\\{kind}")), sorted(f"{way}-{n}" for way in ("smb", "nfs") for n in (5, 300_000, 1_500_000)))
            client.mkdir(f"m\\{kind}\\d")
            client.put(f"m\\{kind}\\d\\x", b"1")
            file = client.create(f"m\\{kind}\\d\\x", ALL)
            file.rename(f"m\\{kind}\\d\\y")
            file.close()
            equal(nfs.get(f"/m/{kind}/d/y"), b"1")
            nfs.rename(f"/m/{kind}/d/y", f"/m/{kind}/z")
            equal(client.get(f"m\\{kind}\\z"), b"1")
            client.remove(f"m\\{kind}\\z")
            client.remove(f"m\\{kind}\\d")
    equal(sorted(os.listdir(HOST_FOLDER)), sorted(f"{way}-{n}" for way in ("smb", "nfs") for n in (5, 300_000, 1_500_000)))
    # By its own name the guest is the same, and so is what is bound.
    with Client("photos") as client:
        equal(len(client.get("smb-300000")), 300_000)
    with Client() as client:
        equal(len(client.get("real\\nfs-5")), 5)


@case
def objects_of_every_size():
    for kind in KINDS:
        for size in (0, 7, 262_144, 262_145, 3_000_000):
            body = os.urandom(size)
            key = f"{kind}/new/way/{size}"
            objects.put_object(Bucket="m", Key=key, Body=body, Metadata={"of": kind})
            got = objects.get_object(Bucket="m", Key=key)
            equal((got["Body"].read(), got["Metadata"]), (body, {"of": kind}))
            equal(nfs.get(f"/m/{key}"), body)
            equal(nfs.stat(f"/m/{key}").uid, 10000)
        # Over what is there.
        objects.put_object(Bucket="m", Key=f"{kind}/new/way/7", Body=b"R" * 400_000)
        equal(nfs.get(f"/m/{kind}/new/way/7"), b"R" * 400_000)
        upload = objects.create_multipart_upload(Bucket="m", Key=f"{kind}/parts")["UploadId"]
        where = {"Bucket": "m", "Key": f"{kind}/parts", "UploadId": upload}
        bodies = [os.urandom(5 << 20), os.urandom(100_000)]
        parts = [{"PartNumber": n, "ETag": objects.upload_part(**where, PartNumber=n, Body=b)["ETag"]}
                 for n, b in enumerate(bodies, 1)]
        objects.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        equal(nfs.get(f"/m/{kind}/parts"), b"".join(bodies))
        # Into it, out of it, and within.
        objects.put_object(Bucket="m", Key="outside", Body=bodies[1] * 4)
        for source, target in (("outside", f"{kind}/copied"), (f"{kind}/copied", "back"), (f"{kind}/copied", f"{kind}/twice")):
            objects.copy_object(Bucket="m", Key=target, CopySource=f"m/{source}")
            equal(objects.get_object(Bucket="m", Key=target)["Body"].read(), bodies[1] * 4)
        listed = [o["Key"] for page in objects.get_paginator("list_objects_v2").paginate(
            Bucket="m", Prefix=f"{kind}/", PaginationConfig={"PageSize": 3}) for o in page.get("Contents", [])]
        for key in ("copied", "new/way/3000000", "parts", "twice"):
            assert f"{kind}/{key}" in listed, listed
        equal(listed, sorted(listed))
        for key in ("copied", "twice", "parts"):
            objects.delete_object(Bucket="m", Key=f"{kind}/{key}")
        assert "parts" not in nfs_names(f"/m/{kind}")


def nfs_names(path):
    with Client() as client:
        return client.names(path.strip("/").replace("/", "\\"))


@case
def what_is_apart_stays_apart():
    """Names do not move from one file system to another, and each has an fsid of its own."""
    calls = Calls()
    devices = {kind: nfs.stat(f"/m/{kind}").dev for kind in KINDS}
    equal(len({devices["host"], devices["guest"], nfs.stat("/m").dev}), 3)
    equal(devices["bind"], nfs.stat("/m").dev)
    with Client() as client:
        client.put("m\\loose", b"loose")
        for kind in ("host", "guest"):
            try:
                nfs.rename("/m/loose", f"/m/{kind}/loose")
                raise AssertionError("it was moved")
            except OSError as failure:
                equal(failure.errno, XDEV)
            file = client.create("m\\loose", ALL)
            try:
                file.rename(f"m\\{kind}\\loose")
                raise AssertionError("it was moved")
            except Status as failure:
                equal(hex(failure.status), hex(NOT_SAME_DEVICE))
            file.close()
            # What is mounted on can not go.
            assert client.status(CREATE, create(f"m\\{kind}", DELETE, OPEN, DELETE_ON_CLOSE)) or client.exists(f"m\\{kind}")
        nfs.rename("/m/loose", "/m/bind/loose")
        equal(nfs.get("/real/loose"), b"loose")
    # From a mount's root up.
    for kind in ("host", "guest"):
        reply = calls.call(100003, 3, calls.text(calls.handle(f"m/{kind}")) + calls.text(b".."))
        equal(struct.unpack_from(">I", reply)[0], 0)
        equal(calls.opaque(reply, 4), calls.handle("m"))


@case
def locks_and_share_modes_hold_in_them():
    with Client() as client:
        for kind in KINDS:
            client.put(f"m\\{kind}\\held", b"0123456789")
            file = client.create(f"m\\{kind}\\held", GENERIC_READ, share=SHARE_READ)
            equal(Calls().write(f"/m/{kind}/held", b"x"), Calls.JUKEBOX)
            file.close()
            equal(Calls().write(f"/m/{kind}/held", b"x"), 0)
            file = client.create(f"m\\{kind}\\held", GENERIC_READ | GENERIC_WRITE)
            client.ask(LOCK, lock(file.handle, (0, 5, 2 | 16)))
            equal(Calls().write(f"/m/{kind}/held", b"x"), Calls.JUKEBOX)
            equal(Calls().write(f"/m/{kind}/held", b"x", 6), 0)
            file.close()


@case
def read_only_and_gone():
    proxyfs("volume", "create", "frozen")
    folder = HOST_FOLDER + ".ro"
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    with open(folder + "/there", "wb") as file:
        file.write(b"there")
    os.chmod(folder + "/there", 0o666)
    proxyfs("volume", "mount", "/default/m/ro", "--directory", folder, "--read-only")
    calls = Calls()
    handle = calls.handle("m/ro/there")
    with Client() as client:
        equal(client.get("m\\ro\\there"), b"there")
        try:
            client.put("m\\ro\\there", b"changed")
            raise AssertionError("it was written")
        except Status as failure:
            assert failure.status in (WRITE_PROTECTED, ACCESS_DENIED), hex(failure.status)
        equal(calls.write("m/ro/there", b"x"), ROFS)
        try:
            objects.put_object(Bucket="m", Key="ro/new", Body=b"x" * 400_000)
            raise AssertionError("it was written")
        except ClientError as failure:
            assert failure.response["ResponseMetadata"]["HTTPStatusCode"] < 500, failure.response
        opened = client.create("m\\ro\\there", GENERIC_READ)
        try:
            proxyfs("volume", "unmount", "/default/m/ro")
            raise AssertionError("it was unmounted while somebody has a file open in it")
        except subprocess.CalledProcessError:
            pass
        opened.close()
        proxyfs("volume", "unmount", "/default/m/ro")
        equal(client.names("m\\ro"), [])
        # A handle into what is gone is stale, and nobody else's.
        equal(struct.unpack_from(">I", calls.call(100003, 1, calls.text(handle)))[0], STALE)
    with open(folder + "/there", "rb") as file:
        equal(file.read(), b"there")


run()
