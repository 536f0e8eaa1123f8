"""writer.py write|check FOLDER ROUND: puts objects until the server is gone, noting what was begun and what was answered;
then checks that each object is the last answered version of it, or the one that was under way. Half of them lie in a bucket
with versions: of these every version that was answered is there. FOLDER.writing is there once it has begun."""
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


BUCKETS = ["kill", "kill-versions"]


def bucket(index):
    return BUCKETS[index // 4 % 2]


def content(name, version, size):
    seed = hashlib.sha256(f"{name}/{version}".encode()).digest()
    return (seed * (size // 32 + 1))[:size]


def write(index):
    name = f"object-{index}"
    path = os.path.join(folder, name)
    state = json.load(open(path)) if os.path.exists(path) else {"answered": 0, "begun": 0, "ids": []}
    size = SIZES[index % len(SIZES)]
    try:
        while True:
            state["begun"] += 1
            save(path, state)
            put = s3.put_object(Bucket=bucket(index), Key=f"d/{name}", Body=content(name, state["begun"], size))
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
        s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=BUCKETS[1], VersioningConfiguration={"Status": "Enabled"})
    open(folder + ".writing", "w").close()
    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    sys.exit(0)

checked = 0
for name in sorted(os.listdir(folder)):
    if name.endswith(".new"):
        continue
    state = json.load(open(os.path.join(folder, name)))
    index = int(name.split("-")[1])
    size = SIZES[index % len(SIZES)]
    for version, number in state["ids"][-40:]:
        body = s3.get_object(Bucket=bucket(index), Key=f"d/{name}", VersionId=number)["Body"].read()
        if body != content(name, version, size):
            print(f"round {round_}: version {version} of {name} is not what was answered")
            sys.exit(1)
    try:
        body = s3.get_object(Bucket=bucket(index), Key=f"d/{name}")["Body"].read()
    except ClientError as error:
        if state["answered"] == 0 and error.response["Error"]["Code"] == "NoSuchKey":
            continue
        raise
    versions = [v for v in range(max(state["answered"], 1), state["begun"] + 1) if content(name, v, size) == body]
    if not versions:
        print(f"round {round_}: {name} of {len(body)} bytes is none of the versions {state}")
        sys.exit(1)
    # From here on the one that is there is the one that was answered.
    state["answered"] = versions[0]
    save(os.path.join(folder, name), state)
    checked += 1
print(f"round {round_}: {checked} objects checked")
