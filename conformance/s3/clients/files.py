"""The same files over S3, NFS and SMB: what one side does the others see, at once and whole."""
import hashlib
import os
import io
import json
import subprocess

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

import nfsfiles
from support import (ENDPOINT, NFS_PORT, absent, case, equal, made_by_files, need, nfs_cat, nfs_url as url, run, same_by_files,
                     smbclient)

s3 = boto3.client("s3", endpoint_url=ENDPOINT, config=Config(retries={"max_attempts": 1}))


@case
def objects_are_files():
    s3.create_bucket(Bucket="shared")
    for size in [0, 5, 3000, 400_000]:
        body = os.urandom(size)
        s3.put_object(Bucket="shared", Key=f"a/b/{size}", Body=body)
        same_by_files(f"shared/a/b/{size}", body)
        s3.put_object(Bucket="shared", Key=f"a/b/{size}", Body=body[::-1])
        same_by_files(f"shared/a/b/{size}", body[::-1])


@case
def files_are_objects():
    s3.create_bucket(Bucket="shared")
    source = f"/dev/shm/proxyfs-s3-{os.getpid()}"
    for size in [7, 100_000]:
        body = os.urandom(size)
        with open(source, "wb") as file:
            file.write(body)
        try:
            subprocess.run(["nfs-cp", source, url(f"shared/file-{size}")], check=True, capture_output=True, timeout=20)
        finally:
            os.unlink(source)
        got = s3.get_object(Bucket="shared", Key=f"file-{size}")
        equal(got["Body"].read(), body)
        assert got["ETag"].strip('"') != hashlib.md5(body).hexdigest() and "-" in got["ETag"]
        listed = {o["Key"]: o["Size"] for o in s3.list_objects_v2(Bucket="shared")["Contents"]}
        equal(listed[f"file-{size}"], size)
        for name in made_by_files("shared", body):
            got = s3.get_object(Bucket="shared", Key=name)
            equal((got["Body"].read(), got["ContentLength"]), (body, size))
            assert "-" in got["ETag"]
            s3.delete_object(Bucket="shared", Key=name)
    put = s3.put_object(Bucket="shared", Key="file-7", Body=b"again")
    equal(put["ETag"], f'"{hashlib.md5(b"again").hexdigest()}"')


@case
def large_objects_and_copies_are_files():
    s3.create_bucket(Bucket="shared")
    body = os.urandom(11 << 20)
    s3.upload_fileobj(
        io.BytesIO(body), "shared", "parts/whole",
        Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
    assert s3.head_object(Bucket="shared", Key="parts/whole")["ETag"].endswith('-3"')
    same_by_files("shared/parts/whole", body)
    s3.copy_object(Bucket="shared", Key="copies/whole", CopySource={"Bucket": "shared", "Key": "parts/whole"})
    same_by_files("shared/copies/whole", body)
    files = nfsfiles.Files(NFS_PORT)
    equal(files.truncate("shared/copies/whole", 1000), 0)
    equal(s3.get_object(Bucket="shared", Key="copies/whole")["Body"].read(), body[:1000])
    equal(nfs_cat("shared/parts/whole"), body)
    # What has lost its content's tag is copied, and read in parts, as any other.
    s3.copy_object(Bucket="shared", Key="copies/cut", CopySource={"Bucket": "shared", "Key": "copies/whole"})
    equal(nfs_cat("shared/copies/cut"), body[:1000])


@case
def copies_and_completions_write_no_data():
    """What the server has on its disk, without its log: an object's bytes go there once."""
    s3.create_bucket(Bucket="shared")
    data = os.environ["SERVER_DATA"]

    def sizes():
        subprocess.run(
            [os.environ["SERVER"], "volume", "checkpoint", "default", "--data", data], check=True, capture_output=True, timeout=60)
        found = {}
        for folder, _, names in os.walk(data):
            for name in names:
                if name.endswith(".log"):
                    continue
                try:
                    status = os.stat(os.path.join(folder, name))
                except FileNotFoundError:
                    continue
                found[status.st_ino] = status.st_size
        return found

    def written(call):
        before = sizes()
        call()
        return sum(max(0, size - before.get(inode, 0)) for inode, size in sizes().items())

    size = 24 << 20
    body = os.urandom(size)
    taken = written(lambda: s3.put_object(Bucket="shared", Key="once", Body=body))
    assert size <= taken < size * 1.25, taken
    taken = written(lambda: s3.copy_object(Bucket="shared", Key="twice", CopySource={"Bucket": "shared", "Key": "once"}))
    assert taken < size // 4, taken
    upload = s3.create_multipart_upload(Bucket="shared", Key="joined")["UploadId"]
    name = {"Bucket": "shared", "Key": "joined", "UploadId": upload}
    halves = [body[:size // 2], body[size // 2:]]
    tags = [s3.upload_part(**name, PartNumber=at, Body=half)["ETag"] for at, half in enumerate(halves, 1)]
    parts = {"Parts": [{"PartNumber": at, "ETag": tag} for at, tag in enumerate(tags, 1)]}
    taken = written(lambda: s3.complete_multipart_upload(**name, MultipartUpload=parts))
    assert taken < size // 4, taken
    for key in ("twice", "joined"):
        equal(s3.get_object(Bucket="shared", Key=key)["Body"].read(), body)


@case
def what_goes_is_gone():
    s3.create_bucket(Bucket="shared")
    files = nfsfiles.Files(NFS_PORT)
    for key in ["gone/a/one", "gone/a/two", "gone/three"]:
        s3.put_object(Bucket="shared", Key=key, Body=b"x", Metadata={"colour": "red"})
    s3.delete_object(Bucket="shared", Key="gone/a/one")
    assert subprocess.run(["nfs-cat", url("shared/gone/a/one")], capture_output=True, timeout=20).returncode != 0
    equal(files.unlink("shared/gone/a/two"), 0)
    try:
        s3.head_object(Bucket="shared", Key="gone/a/two")
    except ClientError as error:
        equal(error.response["ResponseMetadata"]["HTTPStatusCode"], 404)
    else:
        raise AssertionError("what NFS has removed is still an object")
    equal([o["Key"] for o in s3.list_objects_v2(Bucket="shared", Prefix="gone/")["Contents"]], ["gone/three"])
    # The metadata go with the file, under whatever name.
    equal(files.rename("shared/gone/three", "shared/gone/four"), 0)
    equal(s3.head_object(Bucket="shared", Key="gone/four")["Metadata"], {"colour": "red"})
    smbclient('rename "shared\\gone\\four" "shared\\gone\\five"')
    equal(s3.head_object(Bucket="shared", Key="gone/five")["Metadata"], {"colour": "red"})
    smbclient('del "shared\\gone\\five"')
    assert "Contents" not in s3.list_objects_v2(Bucket="shared", Prefix="gone/")


@case
def metadata_are_attributes():
    s3.create_bucket(Bucket="shared")
    s3.put_object(Bucket="shared", Key="meta/k", Body=b"x", Metadata={"colour": "red"})
    found = smbclient('geteas "shared\\meta\\k"')
    assert "colour" in found.lower() and "red" in found, found
    smbclient('setea "shared\\meta\\k" shape round')
    head = s3.head_object(Bucket="shared", Key="meta/k")
    equal(head["Metadata"], {"colour": "red", "shape": "round"})
    # What is said of the content does not change it.
    equal(head["ETag"], f'"{hashlib.md5(b"x").hexdigest()}"')
    s3.copy_object(Bucket="shared", Key="meta/copy", CopySource={"Bucket": "shared", "Key": "meta/k"})
    equal(s3.head_object(Bucket="shared", Key="meta/copy")["Metadata"], {"colour": "red", "shape": "round"})


@case
def a_bucket_is_counted_as_it_is():
    """As a listing says, and at once: what files have added and taken away, too."""
    s3.create_bucket(Bucket="counted")

    def told():
        run = subprocess.run(
            [os.environ["SERVER"], "bucket", "stat", "counted", "--json", "--data", os.environ["SERVER_DATA"]],
            check=True, capture_output=True, timeout=20)
        answer = json.loads(run.stdout)
        answer = answer[0] if isinstance(answer, list) else answer
        listed = s3.list_objects_v2(Bucket="counted").get("Contents", [])
        equal((answer["files"], answer["bytes"]), (len(listed), sum(o["Size"] for o in listed)))
        return answer["files"], answer["bytes"]

    for size in (0, 7, 70_000):
        s3.put_object(Bucket="counted", Key=f"d/{size}", Body=bytes(size))
    equal(told(), (3, 70_007))
    made_by_files("counted/d", bytes(1000))
    equal(told(), (5, 72_007))
    equal(nfsfiles.Files(NFS_PORT).truncate("counted/d/70000", 5), 0)
    equal(told(), (5, 2012))
    smbclient('del "counted\\d\\by-smb"')
    s3.delete_object(Bucket="counted", Key="d/7")
    equal(told(), (3, 1005))


need("nfs-cat", "nfs-cp", "smbclient")
if nfsfiles.is_here():
    run()
absent("libnfs")
