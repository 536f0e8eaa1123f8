"""writer.py write|check FOLDER ROUND: clients of all ways to change something do so until the server is gone, noting what was begun
and what was answered; then it is checked that everything is as it was answered last, or as what was under way would have made it,
and that of each version that was answered nothing is missing. FOLDER.writing is there once they have begun."""
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
config = Config(retries={"max_attempts": 1, "mode": "standard"}, connect_timeout=2, read_timeout=10, max_pool_connections=40)
s3 = boto3.client("s3", endpoint_url=ENDPOINT, config=config)
PLAIN, VERSIONS, LOCKED = BUCKETS = ["kill", "kill-versions", "kill-locked"]
PART = 5 << 20
UNTIL = datetime.datetime(2099, 1, 1, tzinfo=datetime.timezone.utc)
MISSING = ("NoSuchKey", "NoSuchVersion", "NoSuchBucket", "404")


def fail(text):
    print(f"round {round_}: {text}")
    sys.exit(1)


def found(function, **arguments):
    """What it answers; nil: there is no such thing."""
    try:
        return function(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in MISSING:
            raise
        return None


class Put:
    """An object that is put again and again."""

    def __init__(self, bucket, size):
        self.bucket, self.size = bucket, size

    def named(self, index):
        self.name = f"object-{index}"
        self.key = f"d/{self.name}"
        self.place = {"Bucket": self.bucket, "Key": self.key}
        return self

    def content(self, version):
        seed = hashlib.sha256(f"{self.name}/{version}".encode()).digest()
        return (seed * (self.size // 32 + 1))[:self.size]

    def put(self, version, **more):
        return s3.put_object(**self.place, Body=self.content(version), **more).get("VersionId")

    def make(self, version, state):
        """Answers the version's id, when the server has said that it is done."""
        return self.put(version)

    def after(self, version):
        """What the key has once this is done; nil: nothing."""
        return self.content(version)

    def may_end(self, version, state):
        """Whether a version that was answered may be gone by now."""
        return False

    def check_version(self, version, number):
        pass

    def check(self, state):
        for version, number in state["ids"][-40:]:
            got = found(s3.get_object, **self.place, VersionId=number)
            if got is None and self.may_end(version, state):
                continue
            if got is None or got["Body"].read() != self.content(version):
                fail(f"version {version} of {self.name} is not what was answered")
            self.check_version(version, number)
        got = found(s3.get_object, **self.place)
        body = got["Body"].read() if got else None
        if body is None and state["answered"] == 0:
            return
        there = [v for v in range(state["answered"], state["begun"] + 1) if v > 0 and self.after(v) == body]
        if not there:
            fail(f"{self.name} of {-1 if body is None else len(body)} bytes is none of the versions {state}")
        # From here on the one that is there is the one that was answered.
        state["answered"] = there[0]


class Parts(Put):
    def make(self, version, state):
        body = self.content(version)
        upload = s3.create_multipart_upload(**self.place)["UploadId"]
        parts = []
        for number, part in enumerate((body[:PART], body[PART:]), 1):
            tag = s3.upload_part(**self.place, UploadId=upload, PartNumber=number, Body=part)["ETag"]
            parts.append({"PartNumber": number, "ETag": tag})
        done = s3.complete_multipart_upload(**self.place, UploadId=upload, MultipartUpload={"Parts": parts})
        return done.get("VersionId")


class Copy(Put):
    def make(self, version, state):
        source = {"Bucket": self.bucket, "Key": f"source/{self.name}"}
        s3.put_object(**source, Body=self.content(version))
        return s3.copy_object(**self.place, CopySource=source).get("VersionId")


class Removal(Put):
    """It comes and goes: with versions a marker is left."""

    def after(self, version):
        return self.content(version) if version % 2 else None

    def make(self, version, state):
        if version % 2:
            return self.put(version)
        state["marker"] = s3.delete_object(**self.place).get("VersionId")
        return None

    def check(self, state):
        super().check(state)
        if state.get("marker"):
            # It is among the newest.
            markers = s3.list_object_versions(Bucket=self.bucket, Prefix=self.key).get("DeleteMarkers", [])
            if state["marker"] not in [m["VersionId"] for m in markers]:
                fail(f"the marker of {self.name} is not there: {state}")


class RemovalOfMany(Removal):
    def make(self, version, state):
        if version % 2:
            return self.put(version)
        objects = [{"Key": self.key}, {"Key": self.key + "-never"}]
        answer = s3.delete_objects(Bucket=self.bucket, Delete={"Objects": objects})
        if answer.get("Errors"):
            raise RuntimeError(answer["Errors"])
        return None


class Back(Put):
    """Put, removed, and the marker ends: the version before comes back."""

    def after(self, version):
        return None if version % 3 == 2 else self.content(version - 2 if version % 3 == 0 else version)

    def make(self, version, state):
        if version % 3 == 1:
            return self.put(version)
        if version % 3 == 2:
            state["marker"] = s3.delete_object(**self.place)["VersionId"]
        elif state.get("marker"):
            s3.delete_object(**self.place, VersionId=state.pop("marker"))
        return None

    def check(self, state):
        super().check(state)
        # What was under way may be done, and nobody knows its marker: the next round begins anew.
        state["begun"] += -state["begun"] % 3
        state["answered"] = 0
        state.pop("marker", None)
        s3.delete_object(**self.place)


class Ending(Put):
    """Each version ends the one before, for good."""

    def make(self, version, state):
        number = self.put(version)
        for _, before in state["ids"]:
            s3.delete_object(**self.place, VersionId=before)
        state["ended"] = [before for _, before in state["ids"]]
        state["ids"] = []
        return number

    def may_end(self, version, state):
        got = found(s3.get_object, **self.place)
        return got is not None and got["Body"].read() == self.content(state["begun"])

    def check(self, state):
        for number in state.get("ended", []):
            if found(s3.head_object, **self.place, VersionId=number):
                fail(f"a version of {self.name} is there that has ended: {number}")
        super().check(state)


class Locked(Put):
    """With a lock and tags from the beginning."""

    def make(self, version, state):
        return self.put(
            version, Tagging=f"version={version}", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=UNTIL)

    def check_version(self, version, number):
        head = s3.head_object(**self.place, VersionId=number)
        tags = s3.get_object_tagging(**self.place, VersionId=number)["TagSet"]
        if head.get("ObjectLockMode") != "GOVERNANCE" or tags != [{"Key": "version", "Value": str(version)}]:
            fail(f"version {version} of {self.name} has lost its lock or its tags: {head}")


class Held(Put):
    """Locked and held by requests of their own."""

    def make(self, version, state):
        number = self.put(version)
        s3.put_object_retention(
            **self.place, VersionId=number, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": UNTIL})
        s3.put_object_legal_hold(**self.place, VersionId=number, LegalHold={"Status": "ON"})
        return number

    def check_version(self, version, number):
        retention = s3.get_object_retention(**self.place, VersionId=number)["Retention"]
        hold = s3.get_object_legal_hold(**self.place, VersionId=number)["LegalHold"]["Status"]
        if (retention["Mode"], retention["RetainUntilDate"], hold) != ("COMPLIANCE", UNTIL, "ON"):
            fail(f"version {version} of {self.name} has lost its lock: {retention} {hold}")


class Tags(Put):
    """Words about an object that stays."""

    def make(self, version, state):
        if state["answered"] == 0:
            self.put(0)
        self.tell([{"Key": "version", "Value": str(version)}])
        return None

    def tell(self, tags):
        s3.put_object_tagging(**self.place, Tagging={"TagSet": tags})

    def told(self):
        got = found(s3.get_object, **self.place)
        if got and got["Body"].read() != self.content(0):
            fail(f"{self.name} is not what was put")
        return s3.get_object_tagging(**self.place)["TagSet"] if got else None

    def check(self, state):
        tags = self.told()
        if not tags and state["answered"] == 0:
            return
        there = [v for v in range(state["answered"], state["begun"] + 1) if tags == [{"Key": "version", "Value": str(v)}]]
        if not there:
            fail(f"{self.name} is told {tags}, which is none of {state}")
        state["answered"] = there[0]


class BucketTags(Tags):
    def tell(self, tags):
        s3.put_bucket_tagging(Bucket=self.bucket, Tagging={"TagSet": tags})

    def told(self):
        try:
            return s3.get_bucket_tagging(Bucket=self.bucket)["TagSet"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchTagSet":
                raise
            return None


class Buckets(Put):
    """Buckets with locks, each after the last but one has gone."""

    def make(self, version, state):
        if len(state["made"]) == 2:
            s3.delete_bucket(Bucket=state["made"][0])
            state["gone"] = state["made"][0]
        name = f"made-{round_}-{version}"
        s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        state["made"] = state["made"][-1:] + [name]
        return None

    def check(self, state):
        names = {b["Name"] for b in s3.list_buckets()["Buckets"]}
        if state.get("gone") in names:
            fail(f"the bucket {state['gone']} is there that has gone")
        if not set(state["made"][-1:]) <= names:
            fail(f"the bucket {state['made'][-1]} is not there")
        for name in [n for n in names if n.startswith("made-")]:
            lock = s3.get_object_lock_configuration(Bucket=name)["ObjectLockConfiguration"]["ObjectLockEnabled"]
            if lock != "Enabled" or s3.get_bucket_versioning(Bucket=name).get("Status") != "Enabled":
                fail(f"the bucket {name} is there without its lock")
        state["made"] = []
        for name in [n for n in names if n.startswith("made-")]:
            s3.delete_bucket(Bucket=name)


SIZES = [100, 5000, 300_000, 2_000_000]
WAYS = (
    [Put(PLAIN, size) for size in SIZES] + [Put(VERSIONS, size) for size in SIZES]
    + [Parts(PLAIN, PART + 1000), Parts(VERSIONS, PART + 1000), Copy(PLAIN, 300_000), Copy(VERSIONS, 2_000_000)]
    + [Removal(PLAIN, 100), Removal(VERSIONS, 100), RemovalOfMany(PLAIN, 5000), Back(VERSIONS, 5000), Ending(VERSIONS, 300_000)]
    + [Locked(LOCKED, 5000), Held(LOCKED, 100), Tags(PLAIN, 100), BucketTags(PLAIN, 100), Buckets(PLAIN, 0)])
WAYS = [way.named(index) for index, way in enumerate(WAYS)]


def load(way):
    path = os.path.join(folder, way.name)
    return json.load(open(path)) if os.path.exists(path) else {"answered": 0, "begun": 0, "ids": [], "made": []}


def save(way, state):
    path = os.path.join(folder, way.name)
    with open(path + ".new", "w") as file:
        json.dump(state, file)
    os.rename(path + ".new", path)


def write(way):
    state = load(way)
    try:
        while True:
            state["begun"] += 1
            save(way, state)
            after = dict(state)
            number = way.make(state["begun"], after)
            after["answered"] = state["begun"]
            if number is not None:
                after["ids"] = after["ids"] + [[state["begun"], number]]
            state = after
            save(way, state)
    except ClientError as error:
        # Nothing that is asked here is refused, but by a volume that met the power's end before its server did: it only lets read from then on.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500 and "read-only" not in str(error):
            save(way, {**load(way), "refused": f"{error}"})
    except Exception:
        pass


if kind == "write":
    for name in BUCKETS:
        s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=name == LOCKED)
    s3.put_bucket_versioning(Bucket=VERSIONS, VersioningConfiguration={"Status": "Enabled"})
    open(folder + ".writing", "w").close()
    threads = [threading.Thread(target=write, args=(way,)) for way in WAYS]
    [t.start() for t in threads]
    [t.join() for t in threads]
    sys.exit(0)

done = 0
for way in WAYS:
    state = load(way)
    if "refused" in state:
        fail(f"{way.name} {type(way).__name__}: {state['refused']}")
    done += state["answered"]
    way.check(state)
    save(way, state)
print(f"round {round_}: {len(WAYS)} ways, {done} times, checked")
