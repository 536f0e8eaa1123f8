"""The same files over S3 and NFS: what one side does the other one sees, at once and whole."""
import hashlib
import os
import io
import shutil
import subprocess

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

import nfsfiles
from support import ENDPOINT, NFS_PORT, absent, case, equal, run

s3 = boto3.client("s3", endpoint_url=ENDPOINT, config=Config(retries={"max_attempts": 1}))


def url(path):
    # The user's own uid: the first one that the server gives.
    return f"nfs://127.0.0.1/default/{path}?nfsport={NFS_PORT}&mountport={NFS_PORT}&uid=10000&gid=10000"


def nfs_cat(path):
    return subprocess.run(["nfs-cat", url(path)], check=True, capture_output=True, timeout=20).stdout


@case
def objects_are_files():
    s3.create_bucket(Bucket="shared")
    for size in [0, 5, 3000, 400_000]:
        body = os.urandom(size)
        s3.put_object(Bucket="shared", Key=f"a/b/{size}", Body=body)
        equal(nfs_cat(f"shared/a/b/{size}"), body)
        s3.put_object(Bucket="shared", Key=f"a/b/{size}", Body=body[::-1])
        equal(nfs_cat(f"shared/a/b/{size}"), body[::-1])


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
    equal(nfs_cat("shared/parts/whole"), body)
    s3.copy_object(Bucket="shared", Key="copies/whole", CopySource={"Bucket": "shared", "Key": "parts/whole"})
    equal(nfs_cat("shared/copies/whole"), body)
    files = nfsfiles.Files(NFS_PORT)
    equal(files.truncate("shared/copies/whole", 1000), 0)
    equal(s3.get_object(Bucket="shared", Key="copies/whole")["Body"].read(), body[:1000])
    equal(nfs_cat("shared/parts/whole"), body)
    # What has lost its content's tag is copied, and read in parts, as any other.
    s3.copy_object(Bucket="shared", Key="copies/cut", CopySource={"Bucket": "shared", "Key": "copies/whole"})
    equal(nfs_cat("shared/copies/cut"), body[:1000])


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


if shutil.which("nfs-cat") and shutil.which("nfs-cp") and nfsfiles.is_here():
    run()
absent("libnfs with its tools")
