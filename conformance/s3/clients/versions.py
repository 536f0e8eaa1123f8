"""boto3 and minio's client: versions, object lock, rules by which objects end; and what NFS sees of them."""
import datetime
import errno
import io
import threading
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.deleteobjects import DeleteObject
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from minio.versioningconfig import VersioningConfig

import nfsfiles
from support import ENDPOINT, NFS_PORT, absent, case, equal, run

s3 = boto3.client("s3", endpoint_url=ENDPOINT, config=Config(retries={"max_attempts": 1}))
other = boto3.client("s3", endpoint_url=ENDPOINT, aws_access_key_id="bob", aws_secret_access_key="bob-secret",
                     config=Config(retries={"max_attempts": 1}))
mc = Minio(ENDPOINT.split("//")[1], access_key="alice", secret_key="alice-secret", secure=ENDPOINT.startswith("https"))


def refused(code, function, **arguments):
    try:
        function(**arguments)
    except ClientError as error:
        equal(error.response["Error"]["Code"], code)
        return error.response
    raise AssertionError(f"{code} was expected, and it was done")


def versioned(name, **options):
    s3.create_bucket(Bucket=name, **options)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def listed(name, **options):
    """(key, id, newest, mark) of all, in the order of the listing's pages."""
    found = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name, **options):
        part = [(v["Key"], v["VersionId"], v["IsLatest"], False) for v in page.get("Versions", [])]
        part += [(v["Key"], v["VersionId"], v["IsLatest"], True) for v in page.get("DeleteMarkers", [])]
        found += part
    return found


@case
def versions():
    b = versioned("versions")
    equal(s3.get_bucket_versioning(Bucket=b)["Status"], "Enabled")
    ids = [s3.put_object(Bucket=b, Key="d/k", Body=f"{i}".encode() * (10 ** i))["VersionId"] for i in range(7)]
    equal(len(set(ids)), 7)
    for i, v in enumerate(ids):
        got = s3.get_object(Bucket=b, Key="d/k", VersionId=v)
        equal((got["Body"].read(), got["VersionId"]), (f"{i}".encode() * (10 ** i), v))
        equal(s3.head_object(Bucket=b, Key="d/k", VersionId=v)["ContentLength"], 10 ** i)
    equal([(k, v, n) for k, v, n, _ in listed(b)], [("d/k", v, v == ids[-1]) for v in reversed(ids)])
    equal(len(listed(b, PaginationConfig={"PageSize": 2})), 7)
    gone = s3.delete_object(Bucket=b, Key="d/k")
    equal(gone["DeleteMarker"], True)
    response = refused("NoSuchKey", s3.get_object, Bucket=b, Key="d/k")
    equal(response["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"], "true")
    refused("MethodNotAllowed", s3.get_object, Bucket=b, Key="d/k", VersionId=gone["VersionId"])
    refused("405", s3.head_object, Bucket=b, Key="d/k", VersionId=gone["VersionId"])
    equal(s3.list_objects_v2(Bucket=b)["KeyCount"], 0)
    refused("BucketNotEmpty", s3.delete_bucket, Bucket=b)
    equal(s3.delete_object(Bucket=b, Key="d/k", VersionId=gone["VersionId"])["DeleteMarker"], True)
    equal(s3.get_object(Bucket=b, Key="d/k")["VersionId"], ids[-1])
    copy = s3.copy_object(Bucket=b, Key="c", CopySource={"Bucket": b, "Key": "d/k", "VersionId": ids[1]})
    equal(copy["CopySourceVersionId"], ids[1])
    equal(s3.get_object(Bucket=b, Key="c", VersionId=copy["VersionId"])["Body"].read(), b"1" * 10)
    many = s3.delete_objects(Bucket=b, Delete={"Objects": [
        {"Key": "d/k", "VersionId": ids[0]}, {"Key": "c"}, {"Key": "none"}, {"Key": "d/k", "VersionId": ids[-1]}]})
    equal(len(many["Deleted"]), 4)
    equal([d.get("DeleteMarker", False) for d in many["Deleted"]], [False, True, True, False])
    equal(s3.get_object(Bucket=b, Key="d/k")["VersionId"], ids[-2])
    refused("NoSuchVersion", s3.get_object, Bucket=b, Key="d/k", VersionId=ids[0])
    for key, version, _, _ in listed(b):
        s3.delete_object(Bucket=b, Key=key, VersionId=version)
    s3.delete_bucket(Bucket=b)


@case
def uploads():
    b = versioned("versions-uploads")
    before = s3.put_object(Bucket=b, Key="k", Body=b"before")["VersionId"]
    upload = s3.create_multipart_upload(Bucket=b, Key="k")["UploadId"]
    parts = []
    for number, size in [(1, 5 << 20), (2, 100)]:
        part = s3.upload_part(Bucket=b, Key="k", UploadId=upload, PartNumber=number, Body=b"x" * size)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    done = s3.complete_multipart_upload(Bucket=b, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    head = s3.head_object(Bucket=b, Key="k")
    equal((head["VersionId"], head["ContentLength"]), (done["VersionId"], (5 << 20) + 100))
    equal(s3.get_object(Bucket=b, Key="k", VersionId=before)["Body"].read(), b"before")
    equal(s3.get_object_attributes(Bucket=b, Key="k", VersionId=done["VersionId"], ObjectAttributes=["ObjectSize"])[
        "ObjectSize"], (5 << 20) + 100)


@case
def suspended():
    b = versioned("versions-suspended")
    first = s3.put_object(Bucket=b, Key="k", Body=b"1")["VersionId"]
    s3.put_bucket_versioning(Bucket=b, VersioningConfiguration={"Status": "Suspended"})
    for body in [b"2", b"3"]:
        s3.put_object(Bucket=b, Key="k", Body=body)
    equal([(v, n) for _, v, n, _ in listed(b)], [("null", True), (first, False)])
    equal(s3.get_object(Bucket=b, Key="k", VersionId="null")["Body"].read(), b"3")


@case
def lock():
    b = "versions-lock"
    s3.create_bucket(Bucket=b, ObjectLockEnabledForBucket=True)
    equal(s3.get_object_lock_configuration(Bucket=b)["ObjectLockConfiguration"]["ObjectLockEnabled"], "Enabled")
    refused("InvalidBucketState", s3.put_bucket_versioning, Bucket=b, VersioningConfiguration={"Status": "Suspended"})
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=5)
    g = s3.put_object(Bucket=b, Key="d/g", Body=b"g", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until)
    refused("AccessDenied", s3.delete_object, Bucket=b, Key="d/g", VersionId=g["VersionId"])
    refused("AccessDenied", other.delete_object, Bucket=b, Key="d/g", VersionId=g["VersionId"],
            BypassGovernanceRetention=True)
    s3.put_object_retention(Bucket=b, Key="d/g", Retention={}, BypassGovernanceRetention=True)
    s3.delete_object(Bucket=b, Key="d/g", VersionId=g["VersionId"])
    c = s3.put_object(Bucket=b, Key="d/c", Body=b"c", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
    refused("AccessDenied", s3.delete_object, Bucket=b, Key="d/c", VersionId=c["VersionId"],
            BypassGovernanceRetention=True)
    equal(s3.head_object(Bucket=b, Key="d/c")["ObjectLockMode"], "COMPLIANCE")
    s3.put_object_lock_configuration(Bucket=b, ObjectLockConfiguration={
        "ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}})
    d = s3.put_object(Bucket=b, Key="d/d", Body=b"d")
    equal(s3.get_object_retention(Bucket=b, Key="d/d")["Retention"]["Mode"], "GOVERNANCE")
    s3.put_object_legal_hold(Bucket=b, Key="d/d", LegalHold={"Status": "ON"})
    refused("AccessDenied", s3.delete_object, Bucket=b, Key="d/d", VersionId=d["VersionId"],
            BypassGovernanceRetention=True)
    s3.put_object_legal_hold(Bucket=b, Key="d/d", LegalHold={"Status": "OFF"})
    s3.delete_object(Bucket=b, Key="d/d", VersionId=d["VersionId"], BypassGovernanceRetention=True)
    time.sleep(max(0, (until - datetime.datetime.now(datetime.timezone.utc)).total_seconds() + 0.1))
    s3.delete_object(Bucket=b, Key="d/c", VersionId=c["VersionId"])
    s3.delete_bucket(Bucket=b)


@case
def locks_hold_for_nfs():
    if not nfsfiles.is_here():
        return absent("libnfs")
    b = "versions-files"
    s3.create_bucket(Bucket=b, ObjectLockEnabledForBucket=True)
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3)
    put = s3.put_object(Bucket=b, Key="d/k", Body=b"locked", ObjectLockMode="COMPLIANCE",
                        ObjectLockRetainUntilDate=until)
    s3.put_object(Bucket=b, Key="d/other", Body=b"other")
    for uid in (10000, 0):
        files = nfsfiles.Files(NFS_PORT, uid)
        for refusal in [files.unlink(f"{b}/d/k"), files.truncate(f"{b}/d/k", 0), files.rename(f"{b}/d/k", f"{b}/d/l"),
                        files.rename(f"{b}/d/other", f"{b}/d/k"), files.rename(f"{b}/d", f"{b}/e"),
                        files.rename(b, "versions-moved")]:
            equal(refusal, -errno.EPERM)
    equal(s3.get_object(Bucket=b, Key="d/k", VersionId=put["VersionId"])["Body"].read(), b"locked")
    time.sleep(max(0, (until - datetime.datetime.now(datetime.timezone.utc)).total_seconds() + 0.1))
    files = nfsfiles.Files(NFS_PORT)
    equal(files.unlink(f"{b}/d/k"), 0)
    refused("NoSuchKey", s3.get_object, Bucket=b, Key="d/k")
    # Older versions keep the bucket.
    s3.put_object(Bucket=b, Key="v", Body=b"1")
    s3.delete_object(Bucket=b, Key="v")
    equal(files.unlink(f"{b}/d/other"), 0)
    files.rmdir(f"{b}/d")
    equal(files.rmdir(b), -errno.ENOTEMPTY)


@case
def lifecycle():
    b = versioned("versions-lifecycle")
    rules = {"Rules": [
        {"ID": "old", "Status": "Enabled", "Filter": {"And": {"Prefix": "logs/", "Tags": [{"Key": "a", "Value": "b"}]}},
         "Expiration": {"Days": 30}},
        {"ID": "rest", "Status": "Enabled", "Filter": {"Prefix": ""},
         "NoncurrentVersionExpiration": {"NoncurrentDays": 1, "NewerNoncurrentVersions": 2},
         "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}]}
    s3.put_bucket_lifecycle_configuration(Bucket=b, LifecycleConfiguration=rules)
    equal([r["ID"] for r in s3.get_bucket_lifecycle_configuration(Bucket=b)["Rules"]], ["old", "rest"])
    put = s3.put_object(Bucket=b, Key="logs/x", Body=b"x", Tagging="a=b")
    assert 'rule-id="old"' in put["Expiration"], put
    assert "Expiration" not in s3.put_object(Bucket=b, Key="logs/y", Body=b"x")
    rules["Rules"][0]["Transitions"] = [{"Days": 1, "StorageClass": "GLACIER"}]
    refused("NotImplemented", s3.put_bucket_lifecycle_configuration, Bucket=b, LifecycleConfiguration=rules)
    s3.delete_bucket_lifecycle(Bucket=b)
    refused("NoSuchLifecycleConfiguration", s3.get_bucket_lifecycle_configuration, Bucket=b)


@case
def minio():
    b = "versions-minio"
    mc.make_bucket(b)
    mc.set_bucket_versioning(b, VersioningConfig(ENABLED))
    equal(mc.get_bucket_versioning(b).status, "Enabled")
    ids = [mc.put_object(b, "k", io.BytesIO(bytes([i])), 1).version_id for i in range(3)]
    equal(mc.get_object(b, "k", version_id=ids[0]).read(), b"\0")
    equal([o.version_id for o in mc.list_objects(b, include_version=True)], list(reversed(ids)))
    mc.remove_object(b, "k")
    equal([o.is_delete_marker for o in mc.list_objects(b, include_version=True)].count(True), 1)
    mc.set_bucket_lifecycle(b, LifecycleConfig([Rule(ENABLED, rule_filter=Filter(prefix="x/"), rule_id="r",
                                                     expiration=Expiration(days=1))]))
    equal([r.rule_id for r in mc.get_bucket_lifecycle(b).rules], ["r"])
    errors = list(mc.remove_objects(b, [DeleteObject(o.object_name, o.version_id)
                                        for o in mc.list_objects(b, include_version=True)]))
    equal(errors, [])
    mc.remove_bucket(b)


@case
def one_version_at_a_time():
    """While many replace an object, each reader has one version, whole, and its number names it."""
    b = versioned("versions-race")
    size = 300_000
    bodies = {}
    guard = threading.Lock()
    stop = threading.Event()
    failures = []

    def write(writer):
        for i in range(15):
            body = bytes([writer * 16 + i]) * size
            version = s3.put_object(Bucket=b, Key="k", Body=body)["VersionId"]
            with guard:
                bodies[version] = body

    def read():
        while not stop.is_set():
            # Asked before the first one was answered, it may be answered after it.
            is_there = bool(bodies)
            try:
                got = s3.get_object(Bucket=b, Key="k")
                body = got["Body"].read()
                if len(body) != size or len(set(body)) != 1:
                    failures.append("mixed")
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchKey" or is_there:
                    failures.append(str(error))

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(w,)) for w in range(3)]
    [t.start() for t in readers + writers]
    [t.join() for t in writers]
    stop.set()
    [t.join() for t in readers]
    equal(failures, [])
    found = listed(b)
    equal(sorted(v for _, v, _, _ in found), sorted(bodies))
    for version in list(bodies)[::7]:
        equal(s3.get_object(Bucket=b, Key="k", VersionId=version)["Body"].read(), bodies[version])


@case
def writers_readers_lists_and_renames():
    """Everybody at once, over S3 and NFS: whoever reads has one version, whole; a listing has each key once, in order."""
    b = versioned("versions-renames")
    size = 200_000
    stop = threading.Event()
    failures = []

    def write(writer):
        for i in range(25):
            s3.put_object(Bucket=b, Key=f"d/k{i % 3}", Body=bytes([writer * 32 + i]) * size)

    def read(key):
        while not stop.is_set():
            try:
                body = s3.get_object(Bucket=b, Key=key)["Body"].read()
                if len(body) != size or len(set(body)) != 1:
                    failures.append(f"{key}: {len(body)} bytes of {len(set(body))} versions")
            except ClientError as error:
                if error.response["Error"]["Code"] != "NoSuchKey":
                    failures.append(f"{key}: {error}")

    def enumerate_keys():
        while not stop.is_set():
            keys = [o["Key"] for o in s3.list_objects_v2(Bucket=b).get("Contents", [])]
            if keys != sorted(set(keys)):
                failures.append(f"listed {keys}")
            listed(b)

    def rename():
        files = nfsfiles.Files(NFS_PORT)
        while not stop.is_set():
            status = files.rename(f"{b}/d/k0", f"{b}/d/moved")
            if status not in (0, -errno.ENOENT):
                failures.append(f"rename: {status}")

    others = [threading.Thread(target=read, args=(key,)) for key in ("d/k0", "d/moved", "d/k1")]
    others += [threading.Thread(target=enumerate_keys)]
    others += [threading.Thread(target=rename)] if nfsfiles.is_here() else []
    writers = [threading.Thread(target=write, args=(w,)) for w in range(3)]
    [t.start() for t in others + writers]
    [t.join() for t in writers]
    stop.set()
    [t.join() for t in others]
    equal(failures[:3], [])
    for key, version, _, is_mark in listed(b):
        if not is_mark:
            body = s3.get_object(Bucket=b, Key=key, VersionId=version)["Body"].read()
            equal((len(body), len(set(body))), (size, 1))


run()
