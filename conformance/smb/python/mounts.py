"""Mounts as clients see them: a directory of the host, another volume and a bind, by SMB, NFS and S3 at once."""
import subprocess

from botocore.exceptions import ClientError

from support import *

nfs = NFS()
objects = s3()
objects.create_bucket(Bucket="mounted")
nfs.chmod("/mounted", 0o777)
HOST_FOLDER = os.path.join(os.path.dirname(DATA), "host")
NOT_SAME_DEVICE, WRITE_PROTECTED = 0xC00000D4, 0xC00000A2
XDEV, ROFS, STALE = 18, 30, 70

os.mkdir(HOST_FOLDER)
os.chmod(HOST_FOLDER, 0o777)
proxyfs("volume", "create", "photos")
nfs.mkdir("/real")
proxyfs("volume", "mount", "/default/mounted/host", "--directory", HOST_FOLDER)
proxyfs("volume", "mount", "/default/mounted/guest", "--volume", "photos")
proxyfs("volume", "mount", "/default/mounted/bind", "--bind", "/default/real")
nfs.chmod("/mounted/guest", 0o777)
KINDS = ("host", "guest", "bind")


@case
def what_one_writes_all_read():
    with Client() as client:
        for kind in KINDS:
            for size in (5, 300_000, 1_500_000):
                body = os.urandom(size)
                client.put(f"mounted\\{kind}\\smb-{size}", body)
                equal(nfs.get(f"/mounted/{kind}/smb-{size}"), body)
                equal(objects.get_object(Bucket="mounted", Key=f"{kind}/smb-{size}")["Body"].read(), body)
                nfs.put(f"/mounted/{kind}/nfs-{size}", body[::-1])
                equal(client.get(f"mounted\\{kind}\\nfs-{size}"), body[::-1])
            equal(sorted(client.names(f"mounted\\{kind}")), sorted(f"{way}-{n}" for way in ("smb", "nfs") for n in (5, 300_000, 1_500_000)))
            client.mkdir(f"mounted\\{kind}\\d")
            client.put(f"mounted\\{kind}\\d\\x", b"1")
            file = client.create(f"mounted\\{kind}\\d\\x", ALL)
            file.rename(f"mounted\\{kind}\\d\\y")
            file.close()
            equal(nfs.get(f"/mounted/{kind}/d/y"), b"1")
            nfs.rename(f"/mounted/{kind}/d/y", f"/mounted/{kind}/z")
            equal(client.get(f"mounted\\{kind}\\z"), b"1")
            client.remove(f"mounted\\{kind}\\z")
            client.remove(f"mounted\\{kind}\\d")
    equal(sorted(os.listdir(HOST_FOLDER)), sorted(f"{way}-{n}" for way in ("smb", "nfs") for n in (5, 300_000, 1_500_000)))
    # What is bound is the same by its own name.
    with Client() as client:
        equal(len(client.get("real\\nfs-5")), 5)


@case
def objects_of_every_size():
    for kind in KINDS:
        for size in (0, 7, 262_144, 262_145, 3_000_000):
            body = os.urandom(size)
            key = f"{kind}/new/way/{size}"
            objects.put_object(Bucket="mounted", Key=key, Body=body, Metadata={"of": kind})
            got = objects.get_object(Bucket="mounted", Key=key)
            equal((got["Body"].read(), got["Metadata"]), (body, {"of": kind}))
            equal(nfs.get(f"/mounted/{key}"), body)
            equal(nfs.stat(f"/mounted/{key}").uid, 10000)
        # Over what is there.
        objects.put_object(Bucket="mounted", Key=f"{kind}/new/way/7", Body=b"R" * 400_000)
        equal(nfs.get(f"/mounted/{kind}/new/way/7"), b"R" * 400_000)
        upload = objects.create_multipart_upload(Bucket="mounted", Key=f"{kind}/parts")["UploadId"]
        where = {"Bucket": "mounted", "Key": f"{kind}/parts", "UploadId": upload}
        bodies = [os.urandom(5 << 20), os.urandom(100_000)]
        parts = [{"PartNumber": n, "ETag": objects.upload_part(**where, PartNumber=n, Body=b)["ETag"]}
                 for n, b in enumerate(bodies, 1)]
        objects.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        equal(nfs.get(f"/mounted/{kind}/parts"), b"".join(bodies))
        # Into it, out of it, and within.
        objects.put_object(Bucket="mounted", Key="outside", Body=bodies[1] * 4)
        for source, target in (("outside", f"{kind}/copied"), (f"{kind}/copied", "back"), (f"{kind}/copied", f"{kind}/twice")):
            objects.copy_object(Bucket="mounted", Key=target, CopySource=f"mounted/{source}")
            equal(objects.get_object(Bucket="mounted", Key=target)["Body"].read(), bodies[1] * 4)
        listed = [o["Key"] for page in objects.get_paginator("list_objects_v2").paginate(
            Bucket="mounted", Prefix=f"{kind}/", PaginationConfig={"PageSize": 3}) for o in page.get("Contents", [])]
        for key in ("copied", "new/way/3000000", "parts", "twice"):
            assert f"{kind}/{key}" in listed, listed
        equal(listed, sorted(listed))
        for key in ("copied", "twice", "parts"):
            objects.delete_object(Bucket="mounted", Key=f"{kind}/{key}")
        assert "parts" not in nfs_names(f"/mounted/{kind}")


def nfs_names(path):
    with Client() as client:
        return client.names(path.strip("/").replace("/", "\\"))


@case
def what_is_apart_stays_apart():
    """Names do not move from one file system to another, and each has an fsid of its own."""
    calls = Calls()
    devices = {kind: nfs.stat(f"/mounted/{kind}").dev for kind in KINDS}
    equal(len({devices["host"], devices["guest"], nfs.stat("/mounted").dev}), 3)
    equal(devices["bind"], nfs.stat("/mounted").dev)
    with Client() as client:
        client.put("mounted\\loose", b"loose")
        for kind in ("host", "guest"):
            try:
                nfs.rename("/mounted/loose", f"/mounted/{kind}/loose")
                raise AssertionError("it was moved")
            except OSError as failure:
                equal(failure.errno, XDEV)
            file = client.create("mounted\\loose", ALL)
            try:
                file.rename(f"mounted\\{kind}\\loose")
                raise AssertionError("it was moved")
            except Status as failure:
                equal(hex(failure.status), hex(NOT_SAME_DEVICE))
            file.close()
            # What is mounted on can not go.
            assert client.status(CREATE, create(f"mounted\\{kind}", DELETE, OPEN, DELETE_ON_CLOSE)) or client.exists(f"mounted\\{kind}")
        nfs.rename("/mounted/loose", "/mounted/bind/loose")
        equal(nfs.get("/real/loose"), b"loose")
    # From a mount's root up.
    for kind in ("host", "guest"):
        reply = calls.call(100003, 3, calls.text(calls.handle(f"mounted/{kind}")) + calls.text(b".."))
        equal(struct.unpack_from(">I", reply)[0], 0)
        equal(calls.opaque(reply, 4), calls.handle("mounted"))


@case
def locks_and_share_modes_hold_in_them():
    with Client() as client:
        for kind in KINDS:
            client.put(f"mounted\\{kind}\\held", b"0123456789")
            file = client.create(f"mounted\\{kind}\\held", GENERIC_READ, share=SHARE_READ)
            equal(Calls().write(f"/mounted/{kind}/held", b"x"), Calls.JUKEBOX)
            file.close()
            equal(Calls().write(f"/mounted/{kind}/held", b"x"), 0)
            file = client.create(f"mounted\\{kind}\\held", GENERIC_READ | GENERIC_WRITE)
            client.ask(LOCK, lock(file.handle, (0, 5, 2 | 16)))
            equal(Calls().write(f"/mounted/{kind}/held", b"x"), Calls.JUKEBOX)
            equal(Calls().write(f"/mounted/{kind}/held", b"x", 6), 0)
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
    proxyfs("volume", "mount", "/default/mounted/ro", "--directory", folder, "--read-only")
    calls = Calls()
    handle = calls.handle("mounted/ro/there")
    with Client() as client:
        equal(client.get("mounted\\ro\\there"), b"there")
        try:
            client.put("mounted\\ro\\there", b"changed")
            raise AssertionError("it was written")
        except Status as failure:
            assert failure.status in (WRITE_PROTECTED, ACCESS_DENIED), hex(failure.status)
        equal(calls.write("mounted/ro/there", b"x"), ROFS)
        try:
            objects.put_object(Bucket="mounted", Key="ro/new", Body=b"x" * 400_000)
            raise AssertionError("it was written")
        except ClientError as failure:
            assert failure.response["ResponseMetadata"]["HTTPStatusCode"] < 500, failure.response
        opened = client.create("mounted\\ro\\there", GENERIC_READ)
        try:
            proxyfs("volume", "unmount", "/default/mounted/ro")
            raise AssertionError("it was unmounted while somebody has a file open in it")
        except subprocess.CalledProcessError:
            pass
        opened.close()
        proxyfs("volume", "unmount", "/default/mounted/ro")
        equal(client.names("mounted\\ro"), [])
        # A handle into what is gone is stale, and nobody else's.
        equal(struct.unpack_from(">I", calls.call(100003, 1, calls.text(handle)))[0], STALE)
    with open(folder + "/there", "rb") as file:
        equal(file.read(), b"there")


run()
