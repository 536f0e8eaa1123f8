"""Quotas, set by command on the running server: what each protocol answers at a limit, and that nothing has changed then."""
import json

from botocore.exceptions import ClientError

from support import *

nfs = NFS()
objects = s3()
DISK_FULL, DQUOT = 0xC000007F, 69


def tree(name, **limits):
    """A directory for everybody, with a quota that binds."""
    nfs.mkdir(f"/{name}")
    words = [word for key, value in limits.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    proxyfs("quota", "set", "default", "--tree", f"/{name}", *words)
    assert eventually(lambda: quota(name)["counted"]), "the quota does not bind"
    return name


def quota(name):
    rows = json.loads(proxyfs("quota", "list", "default", "--json"))
    return next(row for row in rows if row["subject"] == f"tree /{name}" or row["subject"] == f"tree {name}")


def used(name):
    row = quota(name)
    return row["used"], row["used_files"]


def full(work):
    try:
        work()
    except Status as failure:
        equal(hex(failure.status), hex(DISK_FULL))
        return
    raise AssertionError("it was done")


def exceeded(work):
    try:
        work()
    except ClientError as failure:
        equal((failure.response["Error"]["Code"], failure.response["ResponseMetadata"]["HTTPStatusCode"]),
              ("QuotaExceeded", 403))
        return
    raise AssertionError("it was done")


@case
def smb():
    tree("smb", hard=100_000, hard_files=4)
    with Client() as client:
        client.put("elsewhere", bytes(200_000))
        file = client.create("smb\\a", GENERIC_READ | GENERIC_WRITE, MAKE)
        file.write(b"x" * 60_000)
        equal(used("smb"), (60_000, 1))
        full(lambda: file.write(b"y" * 50_000, 60_000))
        full(lambda: file.write(b"y", 1 << 30))
        full(lambda: file.set(20, struct.pack("<Q", 100_001)))
        # A stream counts where its file does.
        stream = client.create("smb\\a:s", GENERIC_READ | GENERIC_WRITE, MAKE)
        stream.write(b"z" * 30_000)
        full(lambda: stream.write(b"z" * 20_000, 30_000))
        equal(used("smb"), (90_000, 1))
        # Copies on the server, in pieces and shared.
        source = client.create("elsewhere", GENERIC_READ)
        key = source.control(0x140078)[:24]
        for count in (20_000, 200_000):
            pieces = struct.pack("<24sII", key, 1, 0) + struct.pack("<QQII", 0, 60_000, count, 0)
            full(lambda: file.control(0x1480F2, pieces))
        equal(used("smb"), (90_000, 1))
        # A rename into the tree, and names beyond the limit.
        moving = client.create("elsewhere", ALL)
        full(lambda: moving.rename("smb\\in"))
        for name in "bcd":
            client.create(f"smb\\{name}", GENERIC_READ, MAKE).close()
        full(lambda: client.create("smb\\e", GENERIC_READ, MAKE))
        full(lambda: client.mkdir("smb\\f"))
        # The size of the whole, and what is left, in units of the last two numbers.
        home = client.create("smb", GENERIC_READ, OPEN, DIRECTORY)
        total, free, _, sectors, size = struct.unpack("<QQQII", home.info(7, kind=2))
        assert total * sectors * size <= 100_000 and free * sectors * size <= 10_000, (total, free, sectors, size)
        # What takes no more goes on, and room that is given back is there again.
        file.write(b"Y" * 60_000)
        file.set(20, struct.pack("<Q", 10))
        file.write(b"y" * 50_000, 10)
        equal(used("smb"), (80_010, 4))
        for opened in (stream, file, source, moving, home):
            opened.close()
        for name in "abcd":
            client.remove(f"smb\\{name}")
    equal(used("smb"), (0, 0))


@case
def by_nfs():
    tree("nfs", hard=100_000, hard_files=2)
    calls = Calls()
    nfs.put("/nfs/a", b"x" * 60_000)
    equal(calls.write("/nfs/a", b"y" * 50_000, 60_000), DQUOT)
    # Unstable bytes count from the moment of the write, not of the COMMIT.
    handle = calls.handle("/nfs/a")

    def unstable(count, offset):
        body = calls.text(handle) + struct.pack(">QII", offset, count, 0) + calls.text(b"u" * count)
        return struct.unpack_from(">I", calls.call(100003, 7, body))[0]

    equal(unstable(30_000, 60_000), 0)
    equal(used("nfs"), (90_000, 1))
    equal(unstable(20_000, 90_000), DQUOT)
    equal(struct.unpack_from(">I", calls.call(100003, 21, calls.text(handle) + struct.pack(">QI", 0, 0)))[0], 0)
    equal(used("nfs"), (90_000, 1))
    for work in (lambda: nfs.done(nfs.library.nfs_truncate(nfs.context, b"/nfs/a", ctypes.c_uint64(100_001))),
                 lambda: nfs.put("/nfs/b", b"b" * 20_000), lambda: nfs.put("/nfs/c", b"")):
        try:
            work()
        except OSError:
            # libnfs has numbers of its own for it.
            continue
        raise AssertionError("it was done")
    # What of a file was there before the refusal stays: the file, empty.
    equal(used("nfs"), (90_000, 2))
    nfs.remove("/nfs/a")
    nfs.put("/nfs/b", b"b" * 100_000)
    equal(used("nfs"), (100_000, 1))


@case
def by_s3():
    objects.create_bucket(Bucket="papers")
    proxyfs("quota", "set", "default", "--tree", "/papers", "--hard", "1000000")
    assert eventually(lambda: quota("papers")["counted"])
    objects.put_object(Bucket="papers", Key="small", Body=b"s" * 300_000)
    exceeded(lambda: objects.put_object(Bucket="papers", Key="other", Body=b"o" * 800_000))
    exceeded(lambda: objects.put_object(Bucket="papers", Key="small", Body=b"S" * 1_200_000))
    equal(objects.get_object(Bucket="papers", Key="small")["Body"].read(), b"s" * 300_000)
    equal(used("papers")[0], 300_000)
    exceeded(lambda: [objects.copy_object(Bucket="papers", Key=f"copy-{i}", CopySource="papers/small") for i in range(3)])
    equal(used("papers"), (900_000, 3))
    for key in ("copy-0", "copy-1"):
        objects.delete_object(Bucket="papers", Key=key)
    # Parts count while they come; what is made of them takes no room for a second time.
    upload = objects.create_multipart_upload(Bucket="papers", Key="large")["UploadId"]
    where = {"Bucket": "papers", "Key": "large", "UploadId": upload}
    part = objects.upload_part(**where, PartNumber=1, Body=b"p" * 600_000)
    exceeded(lambda: objects.upload_part(**where, PartNumber=2, Body=b"p" * 400_000))
    exceeded(lambda: [objects.upload_part_copy(**where, PartNumber=n, CopySource="papers/small") for n in (2, 3)])
    equal(used("papers")[0], 900_000)
    objects.complete_multipart_upload(
        **where, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    equal(used("papers")[0], 900_000)
    equal(objects.head_object(Bucket="papers", Key="large")["ContentLength"], 600_000)
    exceeded(lambda: objects.put_object(Bucket="papers", Key="more", Body=b"m" * 100_001))
    objects.put_object(Bucket="papers", Key="more", Body=b"m" * 100_000)


@case
def users_by_every_way():
    """One limit of a user binds the same person by every protocol."""
    proxyfs("quota", "set", "default", "--user", USER, "--hard", "1TiB")

    def own():
        return next(row for row in json.loads(proxyfs("quota", "list", "--json")) if row["subject"] == f"user {USER}")

    assert eventually(lambda: own()["counted"])
    nfs.mkdir("/shared")
    limit = own()["used"] + 500_000
    proxyfs("quota", "set", "default", "--user", USER, "--hard", str(limit))
    with Client() as client:
        client.put("shared\\smb", bytes(250_000))
        NFS(uid=10000).put("/shared/nfs", bytes(100_000))
        equal(limit - own()["used"], 150_000)
        exceeded(lambda: objects.put_object(Bucket="shared", Key="s3", Body=bytes(150_001)))
        objects.put_object(Bucket="shared", Key="s3", Body=bytes(150_000))
        equal(own()["used"], limit)
        full(lambda: client.put("shared\\more", b"x"))
        equal(Calls(uid=10000).write("/shared/nfs", b"x", 100_000), DQUOT)
        client.remove("shared\\smb")
        objects.put_object(Bucket="shared", Key="again", Body=b"x" * 250_000)
    proxyfs("quota", "remove", "default", "--user", USER)


run()
