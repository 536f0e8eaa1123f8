"""writer.py write|check FOLDER ROUND: puts objects until the server is gone, noting what was begun and what was answered;
then checks that each object is the last answered version of it, or the one that was under way. Half of them lie in a bucket
with versions: of these every version that was answered is there. Some are made of parts, some are copies, one comes and goes,
one has a lock and tags with each version. FOLDER.writing is there once it has begun."""
import datetime
import hashlib
import json
import os
import sys
import threading

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

kind, folder, round_ = sys.argv[1], sys.argv[2], int(sys.argv[3])
ENDPOINT = os.environ["ENDPOINT"]
config = Config(retries={"max_attempts": 1, "mode": "standard"}, connect_timeout=2, read_timeout=10)
s3 = boto3.client("s3", endpoint_url=ENDPOINT, config=config)
SIZES = [100, 5000, 300_000, 2_000_000]


PART = 5 << 20
BUCKETS = ["kill", "kill-versions", "kill-locked"]
# Behind the plain ones: how each of their versions is made.
WAYS = {8: "parts", 9: "parts", 10: "copy", 11: "copy", 12: "delete", 13: "lock"}


def way(index):
    return WAYS.get(index, "put")


def bucket(index):
    if way(index) in ("delete", "lock"):
        return BUCKETS[1 if way(index) == "delete" else 2]
    return BUCKETS[index // 4 % 2 if index < 8 else index % 2]


def size_of(index):
    return PART + 1000 if way(index) == "parts" else SIZES[index % len(SIZES)]


def is_removal(index, version):
    return way(index) == "delete" and version % 2 == 0


def content(name, version, size):
    seed = hashlib.sha256(f"{name}/{version}".encode()).digest()
    return (seed * (size // 32 + 1))[:size]


def make(index, name, version):
    """Answers what the server said, when it has said that it is done."""
    b, key, body = bucket(index), f"d/{name}", content(name, version, size_of(index))
    if is_removal(index, version):
        return s3.delete_object(Bucket=b, Key=key)
    if way(index) == "copy":
        s3.put_object(Bucket=b, Key=f"source/{name}", Body=body)
        return s3.copy_object(Bucket=b, Key=key, CopySource={"Bucket": b, "Key": f"source/{name}"})
    if way(index) == "parts":
        upload = s3.create_multipart_upload(Bucket=b, Key=key)["UploadId"]
        parts = []
        for number, part in enumerate((body[:PART], body[PART:]), 1):
            tag = s3.upload_part(Bucket=b, Key=key, UploadId=upload, PartNumber=number, Body=part)["ETag"]
            parts.append({"PartNumber": number, "ETag": tag})
        return s3.complete_multipart_upload(Bucket=b, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    if way(index) == "lock":
        return s3.put_object(
            Bucket=b, Key=key, Body=body, Tagging=f"version={version}", ObjectLockMode="GOVERNANCE",
            ObjectLockRetainUntilDate=datetime.datetime(2099, 1, 1))
    return s3.put_object(Bucket=b, Key=key, Body=body)


def check_lock(index, name, version, number):
    head = s3.head_object(Bucket=bucket(index), Key=f"d/{name}", VersionId=number)
    tags = s3.get_object_tagging(Bucket=bucket(index), Key=f"d/{name}", VersionId=number)["TagSet"]
    if head.get("ObjectLockMode") != "GOVERNANCE" or tags != [{"Key": "version", "Value": str(version)}]:
        print(f"round {round_}: version {version} of {name} has lost its lock or its tags: {head}")
        sys.exit(1)


def write(index):
    name = f"object-{index}"
    path = os.path.join(folder, name)
    state = json.load(open(path)) if os.path.exists(path) else {"answered": 0, "begun": 0, "ids": []}
    try:
        while True:
            state["begun"] += 1
            save(path, state)
            put = make(index, name, state["begun"])
            state["answered"] = state["begun"]
            if "VersionId" in put:
                state["ids"].append([state["begun"], put["VersionId"]])
            save(path, state)
    except Exception:
        pass


def save(path, state):
    with open(path + ".new", "w") as file:
        json.dump(state, file)
    os.rename(path + ".new", path)


if kind == "write":
    for name in BUCKETS:
        s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=name == BUCKETS[2])
    s3.put_bucket_versioning(Bucket=BUCKETS[1], VersioningConfiguration={"Status": "Enabled"})
    open(folder + ".writing", "w").close()
    threads = [threading.Thread(target=write, args=(i,)) for i in range(14)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    sys.exit(0)

checked = 0
for name in sorted(os.listdir(folder)):
    if name.endswith(".new"):
        continue
    state = json.load(open(os.path.join(folder, name)))
    index = int(name.split("-")[1])
    size = size_of(index)
    for version, number in state["ids"][-40:]:
        if is_removal(index, version):
            continue
        if way(index) == "lock":
            check_lock(index, name, version, number)
        body = s3.get_object(Bucket=bucket(index), Key=f"d/{name}", VersionId=number)["Body"].read()
        if body != content(name, version, size):
            print(f"round {round_}: version {version} of {name} is not what was answered")
            sys.exit(1)
    try:
        body = s3.get_object(Bucket=bucket(index), Key=f"d/{name}")["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        body = None
        if state["answered"] == 0:
            continue

    def is_there(version):
        return body is None if is_removal(index, version) else content(name, version, size) == body

    versions = [v for v in range(max(state["answered"], 1), state["begun"] + 1) if is_there(v)]
    if not versions:
        print(f"round {round_}: {name} of {-1 if body is None else len(body)} bytes is none of the versions {state}")
        sys.exit(1)
    # From here on the one that is there is the one that was answered.
    state["answered"] = versions[0]
    save(os.path.join(folder, name), state)
    checked += 1
print(f"round {round_}: {checked} objects checked")
