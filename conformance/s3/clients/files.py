"""The same files over S3 and NFS: what one side does the other one sees, at once and whole."""
import hashlib
import os
import shutil
import subprocess

import boto3
from botocore.config import Config

from support import ENDPOINT, NFS_PORT, case, equal, run

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


if shutil.which("nfs-cat") and shutil.which("nfs-cp"):
    run()
print("files.py: libnfs's tools are not here: nothing was compared")
