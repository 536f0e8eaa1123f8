"""boto3: the surface of the API, error by error."""
import base64
import datetime
import hashlib
import json
import os
import socket
import subprocess
import threading
import urllib.error
import urllib.request
import warnings

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore import UNSIGNED
from botocore.compat import HAS_CRT

from support import ENDPOINT, SECURE_ENDPOINT, case, equal, run

warnings.filterwarnings("ignore")


def client(endpoint=ENDPOINT, key="alice", secret="alice-secret", **options):
    return boto3.client(
        "s3", endpoint_url=endpoint, verify=False, aws_access_key_id=key, aws_secret_access_key=secret,
        config=Config(retries={"max_attempts": 1}, **options))


s3 = client()
bob = client(key="bob", secret="bob-secret")
anonymous = boto3.client("s3", endpoint_url=ENDPOINT, config=Config(signature_version=UNSIGNED))


def refused(code, status, function, **arguments):
    try:
        function(**arguments)
    except ClientError as error:
        equal((error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]), (code, status))
        return error.response
    raise AssertionError(f"{code} was expected, and it was done")


def bucket(name):
    s3.create_bucket(Bucket=name)
    return name


def keys(name, **arguments):
    found = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=name, **arguments):
        found += [o["Key"] for o in page.get("Contents", [])]
    return found


@case
def buckets():
    b = bucket("buckets-a")
    s3.create_bucket(Bucket=b)
    assert b in [x["Name"] for x in s3.list_buckets()["Buckets"]]
    s3.head_bucket(Bucket=b)
    equal(s3.get_bucket_location(Bucket=b)["LocationConstraint"], None)
    refused("404", 404, s3.head_bucket, Bucket="buckets-none")
    refused("NoSuchBucket", 404, s3.list_objects_v2, Bucket="buckets-none")
    refused("InvalidBucketName", 400, s3.create_bucket, Bucket="AB")
    refused("BucketAlreadyExists", 409, bob.create_bucket, Bucket=b)
    s3.put_object(Bucket=b, Key="x", Body=b"1")
    refused("BucketNotEmpty", 409, s3.delete_bucket, Bucket=b)
    s3.delete_object(Bucket=b, Key="x")
    s3.delete_bucket(Bucket=b)
    refused("NoSuchBucket", 404, s3.delete_bucket, Bucket=b)


@case
def objects():
    b = bucket("objects")
    for size in [0, 1, 2047, 2048, 2049, 65535, 262144, 262145, 600_000, 3_000_000]:
        body = os.urandom(size)
        put = s3.put_object(Bucket=b, Key=f"size/{size}", Body=body)
        equal(put["ETag"], f'"{hashlib.md5(body).hexdigest()}"')
        got = s3.get_object(Bucket=b, Key=f"size/{size}")
        equal(got["Body"].read(), body)
        equal(got["ContentLength"], size)
        equal(got["ETag"], put["ETag"])
        head = s3.head_object(Bucket=b, Key=f"size/{size}", ChecksumMode="ENABLED")
        equal((head["ContentLength"], head["ETag"]), (size, put["ETag"]))
        assert "ChecksumCRC32" in head, head
        s3.put_object(Bucket=b, Key=f"size/{size}", Body=body + b"!")
        equal(s3.get_object(Bucket=b, Key=f"size/{size}")["Body"].read(), body + b"!")
    refused("NoSuchKey", 404, s3.get_object, Bucket=b, Key="none")
    refused("404", 404, s3.head_object, Bucket=b, Key="none")
    refused("NoSuchKey", 404, s3.get_object, Bucket=b, Key="size")
    s3.delete_object(Bucket=b, Key="none")
    for key in ["ä ö/ü+%20?&=", "a b/c", "plus+plus", "semi;colon", "quote'\"", "emoji-\U0001f600", "tilde~(x)!*'"]:
        s3.put_object(Bucket=b, Key=key, Body=key.encode())
        equal(s3.get_object(Bucket=b, Key=key)["Body"].read(), key.encode())
        assert key in keys(b), key
        s3.delete_object(Bucket=b, Key=key)


@case
def metadata():
    b = bucket("metadata")
    s3.put_object(
        Bucket=b, Key="m", Body=b"x", ContentType="text/x-test", CacheControl="no-store", ContentEncoding="gzip",
        ContentDisposition="attachment; filename=x", ContentLanguage="de",
        Expires=datetime.datetime(2030, 1, 1), Metadata={"One": "1", "two-two": "b c"}, Tagging="a=1&b=x%20y")
    h = s3.head_object(Bucket=b, Key="m")
    equal(h["ContentType"], "text/x-test")
    equal(h["CacheControl"], "no-store")
    equal(h["ContentEncoding"], "gzip")
    equal(h["ContentDisposition"], "attachment; filename=x")
    equal(h["ContentLanguage"], "de")
    equal(h["Metadata"], {"one": "1", "two-two": "b c"})
    equal(s3.get_object_tagging(Bucket=b, Key="m")["TagSet"], [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "x y"}])
    s3.put_object_tagging(Bucket=b, Key="m", Tagging={"TagSet": [{"Key": "c", "Value": "+-=._:/@"}]})
    refused("InvalidTag", 400, s3.put_object_tagging, Bucket=b, Key="m",
            Tagging={"TagSet": [{"Key": "c", "Value": "<&>"}]})
    equal(s3.get_object_tagging(Bucket=b, Key="m")["TagSet"], [{"Key": "c", "Value": "+-=._:/@"}])
    equal(s3.head_object(Bucket=b, Key="m")["ETag"], h["ETag"])
    s3.delete_object_tagging(Bucket=b, Key="m")
    equal(s3.get_object_tagging(Bucket=b, Key="m")["TagSet"], [])
    refused("InvalidTag", 400, s3.put_object_tagging, Bucket=b, Key="m",
            Tagging={"TagSet": [{"Key": str(i), "Value": ""} for i in range(11)]})
    refused("MetadataTooLarge", 400, s3.put_object, Bucket=b, Key="m", Body=b"", Metadata={"x": "y" * 3000})
    many = {f"key-{i}": f"value {i}" for i in range(40)}
    s3.put_object(Bucket=b, Key="many", Body=b"x", Metadata=many)
    equal(s3.head_object(Bucket=b, Key="many")["Metadata"], many)
    s3.put_object(Bucket=b, Key="m", Body=b"y")
    equal(s3.head_object(Bucket=b, Key="m")["Metadata"], {})
    got = s3.get_object(Bucket=b, Key="m", ResponseContentType="a/b", ResponseCacheControl="max-age=1")
    equal((got["ContentType"], got["CacheControl"]), ("a/b", "max-age=1"))


@case
def ranges_and_conditions():
    b = bucket("ranges")
    body = bytes(range(256)) * 2000
    etag = s3.put_object(Bucket=b, Key="r", Body=body)["ETag"]
    for text, part in [("bytes=0-9", body[:10]), ("bytes=100-", body[100:]), ("bytes=-7", body[-7:]),
                       ("bytes=511000-9999999", body[511000:]), ("bytes=5-5", body[5:6])]:
        got = s3.get_object(Bucket=b, Key="r", Range=text)
        equal(got["Body"].read(), part)
        equal(got["ResponseMetadata"]["HTTPStatusCode"], 206)
    equal(s3.get_object(Bucket=b, Key="r", Range="bytes=0-1,3-4")["Body"].read(), body)
    answer = refused("InvalidRange", 416, s3.get_object, Bucket=b, Key="r", Range=f"bytes={len(body)}-")
    equal(answer["ResponseMetadata"]["HTTPHeaders"]["content-range"], f"bytes */{len(body)}")
    s3.get_object(Bucket=b, Key="r", IfMatch=etag)
    refused("PreconditionFailed", 412, s3.get_object, Bucket=b, Key="r", IfMatch='"0"')
    refused("304", 304, s3.get_object, Bucket=b, Key="r", IfNoneMatch=etag)
    future = datetime.datetime(2035, 1, 1)
    past = datetime.datetime(2015, 1, 1)
    refused("304", 304, s3.get_object, Bucket=b, Key="r", IfModifiedSince=future)
    s3.get_object(Bucket=b, Key="r", IfModifiedSince=past)
    refused("PreconditionFailed", 412, s3.get_object, Bucket=b, Key="r", IfUnmodifiedSince=past)
    refused("PreconditionFailed", 412, s3.put_object, Bucket=b, Key="r", Body=b"", IfNoneMatch="*")
    refused("PreconditionFailed", 412, s3.put_object, Bucket=b, Key="r", Body=b"", IfMatch='"0"')
    refused("NoSuchKey", 404, s3.put_object, Bucket=b, Key="none", Body=b"", IfMatch=etag)
    s3.put_object(Bucket=b, Key="new", Body=b"1", IfNoneMatch="*")
    s3.put_object(Bucket=b, Key="r", Body=b"2", IfMatch=etag)
    equal(s3.get_object(Bucket=b, Key="r")["Body"].read(), b"2")
    results = []

    def create(i):
        try:
            s3.put_object(Bucket=b, Key="race", Body=str(i).encode(), IfNoneMatch="*")
            results.append(i)
        except ClientError as error:
            equal(error.response["Error"]["Code"], "PreconditionFailed")

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    equal(len(results), 1)
    equal(s3.get_object(Bucket=b, Key="race")["Body"].read(), str(results[0]).encode())


@case
def listings():
    b = bucket("listings")
    names = ["a", "a-b", "a/x", "a/y/z", "b/1", "b/2", "b0", "c d", "z"]
    names = [n for n in names if n != "a"]
    for name in names:
        s3.put_object(Bucket=b, Key=name, Body=b"")
    expected = sorted(names, key=lambda n: n.encode())
    equal(keys(b), expected)
    for size in [1, 2, 3]:
        equal(keys(b, PaginationConfig={"PageSize": size}), expected)
    for delimiter, prefix in [("/", ""), ("/", "a/"), ("/", "b"), ("-", ""), ("b", ""), ("/y", ""), ("/", "nothing")]:
        wanted_keys, wanted_prefixes = [], []
        for name in expected:
            if not name.startswith(prefix):
                continue
            end = name.find(delimiter, len(prefix))
            if end < 0:
                wanted_keys.append(name)
            else:
                common = name[:end + len(delimiter)]
                if common not in wanted_prefixes:
                    wanted_prefixes.append(common)
        for size in [1, 2, 1000]:
            found_keys, found_prefixes = [], []
            for page in s3.get_paginator("list_objects_v2").paginate(
                    Bucket=b, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}):
                found_keys += [o["Key"] for o in page.get("Contents", [])]
                found_prefixes += [p["Prefix"] for p in page.get("CommonPrefixes", [])]
                assert page["KeyCount"] <= size
            equal((delimiter, prefix, size, found_keys, found_prefixes),
                  (delimiter, prefix, size, wanted_keys, wanted_prefixes))
            found_keys, found_prefixes = [], []
            for page in s3.get_paginator("list_objects").paginate(
                    Bucket=b, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}):
                found_keys += [o["Key"] for o in page.get("Contents", [])]
                found_prefixes += [p["Prefix"] for p in page.get("CommonPrefixes", [])]
            equal((found_keys, found_prefixes), (wanted_keys, wanted_prefixes))
    equal([o["Key"] for o in s3.list_objects_v2(Bucket=b, StartAfter="b/1")["Contents"]],
          [n for n in expected if n.encode() > b"b/1"])
    page = s3.list_objects_v2(Bucket=b, MaxKeys=0)
    equal((page["KeyCount"], page["IsTruncated"]), (0, False))
    equal([v["Key"] for v in s3.list_object_versions(Bucket=b)["Versions"]], expected)


@case
def directories():
    b = bucket("directories")
    s3.put_object(Bucket=b, Key="d/e/f", Body=b"1")
    equal(keys(b), ["d/e/f"])
    s3.put_object(Bucket=b, Key="d/", Body=b"")
    equal(keys(b), ["d/", "d/e/f"])
    s3.head_object(Bucket=b, Key="d/")
    refused("404", 404, s3.head_object, Bucket=b, Key="d/e/")
    s3.delete_object(Bucket=b, Key="d/")
    equal(keys(b), ["d/e/f"])
    s3.put_object(Bucket=b, Key="d/", Body=b"")
    s3.delete_object(Bucket=b, Key="d/e/f")
    equal(keys(b), ["d/"])
    s3.delete_object(Bucket=b, Key="d/")
    equal(keys(b), [])
    refused("InvalidArgument", 400, s3.put_object, Bucket=b, Key="x//y", Body=b"")
    refused("InvalidArgument", 400, s3.put_object, Bucket=b, Key="x/", Body=b"1")
    refused("KeyTooLongError", 400, s3.put_object, Bucket=b, Key="x" * 300, Body=b"")
    refused("KeyTooLongError", 400, s3.put_object, Bucket=b, Key="x/" * 600, Body=b"")
    s3.put_object(Bucket=b, Key="file", Body=b"")
    refused("KeyConflict", 409, s3.put_object, Bucket=b, Key="file/below", Body=b"")
    s3.put_object(Bucket=b, Key="tree/leaf", Body=b"")
    refused("KeyConflict", 409, s3.put_object, Bucket=b, Key="tree", Body=b"")


@case
def deletes():
    b = bucket("deletes")
    for i in range(30):
        s3.put_object(Bucket=b, Key=f"k/{i}", Body=b"x")
    answer = s3.delete_objects(Bucket=b, Delete={"Objects": [{"Key": f"k/{i}"} for i in range(32)]})
    equal(len(answer["Deleted"]), 32)
    equal(keys(b), [])
    s3.put_object(Bucket=b, Key="q", Body=b"x")
    answer = s3.delete_objects(Bucket=b, Delete={"Objects": [{"Key": "q"}], "Quiet": True})
    equal(answer.get("Deleted"), None)
    s3.delete_bucket(Bucket=b)


@case
def copies():
    b = bucket("copies")
    body = os.urandom(700_000)
    etag = s3.put_object(Bucket=b, Key="from/ä", Body=body, ContentType="x/y", Metadata={"m": "1"}, Tagging="t=1")["ETag"]
    source = {"Bucket": b, "Key": "from/ä"}
    equal(s3.copy_object(Bucket=b, Key="to", CopySource=source)["CopyObjectResult"]["ETag"], etag)
    got = s3.get_object(Bucket=b, Key="to")
    equal((got["Body"].read(), got["ContentType"], got["Metadata"]), (body, "x/y", {"m": "1"}))
    equal(s3.get_object_tagging(Bucket=b, Key="to")["TagSet"], [{"Key": "t", "Value": "1"}])
    s3.copy_object(Bucket=b, Key="to", CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "2"},
                   ContentType="a/b", TaggingDirective="REPLACE", Tagging="u=2")
    got = s3.head_object(Bucket=b, Key="to")
    equal((got["ContentType"], got["Metadata"]), ("a/b", {"n": "2"}))
    refused("InvalidRequest", 400, s3.copy_object, Bucket=b, Key="to", CopySource={"Bucket": b, "Key": "to"})
    s3.copy_object(Bucket=b, Key="to", CopySource={"Bucket": b, "Key": "to"}, MetadataDirective="REPLACE")
    equal(s3.get_object(Bucket=b, Key="to")["Body"].read(), body)
    refused("NoSuchKey", 404, s3.copy_object, Bucket=b, Key="x", CopySource={"Bucket": b, "Key": "none"})
    refused("PreconditionFailed", 412, s3.copy_object, Bucket=b, Key="x", CopySource=source, CopySourceIfMatch='"0"')
    s3.delete_object(Bucket=b, Key="from/ä")
    equal(s3.get_object(Bucket=b, Key="to")["Body"].read(), body)


@case
def multipart():
    b = bucket("multipart")
    parts = [os.urandom(5 << 20), os.urandom(5 << 20), os.urandom(1000)]
    forms = [(None, None), ("CRC32", None), ("SHA1", None), ("SHA256", None), ("CRC32", "FULL_OBJECT")]
    if HAS_CRT:
        forms = [("CRC32C", None), ("CRC32C", "FULL_OBJECT"), ("CRC64NVME", "FULL_OBJECT")]
    for algorithm, kind in forms:
        options = {"ChecksumAlgorithm": algorithm} if algorithm else {}
        if kind:
            options["ChecksumType"] = kind
        upload = s3.create_multipart_upload(Bucket=b, Key="m/u", Metadata={"a": "b"}, ContentType="x/y", **options)["UploadId"]
        equal([u["UploadId"] for u in s3.list_multipart_uploads(Bucket=b)["Uploads"]], [upload])
        done = []
        for number, part in enumerate(parts, 1):
            sent = {"ChecksumAlgorithm": algorithm} if algorithm else {}
            answer = s3.upload_part(Bucket=b, Key="m/u", UploadId=upload, PartNumber=number, Body=part, **sent)
            equal(answer["ETag"], f'"{hashlib.md5(part).hexdigest()}"')
            entry = {"PartNumber": number, "ETag": answer["ETag"]}
            if algorithm:
                entry[f"Checksum{algorithm}"] = answer[f"Checksum{algorithm}"]
            done.append(entry)
        listed = s3.list_parts(Bucket=b, Key="m/u", UploadId=upload)["Parts"]
        equal([p["Size"] for p in listed], [len(p) for p in parts])
        refused("InvalidPartOrder", 400, s3.complete_multipart_upload, Bucket=b, Key="m/u", UploadId=upload,
                MultipartUpload={"Parts": done[::-1]})
        refused("InvalidPart", 400, s3.complete_multipart_upload, Bucket=b, Key="m/u", UploadId=upload,
                MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"0"'}]})
        finish = dict(Bucket=b, Key="m/u", UploadId=upload, MultipartUpload={"Parts": done})
        if kind:
            finish["ChecksumType"] = kind
        answer = s3.complete_multipart_upload(**finish)
        digest = hashlib.md5(b"".join(hashlib.md5(p).digest() for p in parts)).hexdigest()
        equal(answer["ETag"], f'"{digest}-3"')
        equal(s3.complete_multipart_upload(**finish)["ETag"], answer["ETag"])
        got = s3.get_object(Bucket=b, Key="m/u", ChecksumMode="ENABLED")
        equal(got["Body"].read(), b"".join(parts))
        equal((got["Metadata"], got["ContentType"]), ({"a": "b"}, "x/y"))
        part = s3.get_object(Bucket=b, Key="m/u", PartNumber=3)
        equal((part["Body"].read(), part["PartsCount"]), (parts[2], 3))
        if algorithm:
            attributes = s3.get_object_attributes(
                Bucket=b, Key="m/u", ObjectAttributes=["ETag", "Checksum", "ObjectParts", "ObjectSize", "StorageClass"])
            equal(attributes["ObjectSize"], sum(map(len, parts)))
            equal(attributes["ObjectParts"]["TotalPartsCount"], 3)
            equal(attributes["Checksum"]["ChecksumType"], kind or "COMPOSITE")
        equal(s3.list_multipart_uploads(Bucket=b).get("Uploads"), None)
    upload = s3.create_multipart_upload(Bucket=b, Key="small")["UploadId"]
    tags = [s3.upload_part(Bucket=b, Key="small", UploadId=upload, PartNumber=n, Body=b"x")["ETag"] for n in (1, 2)]
    refused("EntityTooSmall", 400, s3.complete_multipart_upload, Bucket=b, Key="small", UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": n, "ETag": t} for n, t in enumerate(tags, 1)]})
    s3.abort_multipart_upload(Bucket=b, Key="small", UploadId=upload)
    refused("NoSuchUpload", 404, s3.list_parts, Bucket=b, Key="small", UploadId=upload)
    upload = s3.create_multipart_upload(Bucket=b, Key="copy")["UploadId"]
    first = s3.upload_part_copy(Bucket=b, Key="copy", UploadId=upload, PartNumber=1, CopySource={"Bucket": b, "Key": "m/u"},
                                CopySourceRange=f"bytes=0-{(5 << 20) - 1}")["CopyPartResult"]["ETag"]
    equal(first, f'"{hashlib.md5(parts[0]).hexdigest()}"')
    second = s3.upload_part_copy(Bucket=b, Key="copy", UploadId=upload, PartNumber=2, CopySource={"Bucket": b, "Key": "m/u"},
                                 CopySourceRange="bytes=10-19")["CopyPartResult"]["ETag"]
    s3.complete_multipart_upload(Bucket=b, Key="copy", UploadId=upload, MultipartUpload={
        "Parts": [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]})
    equal(s3.get_object(Bucket=b, Key="copy")["Body"].read(), parts[0] + parts[0][10:20])


@case
def checksums():
    b = bucket("checksums")
    for algorithm in ["CRC32", "SHA1", "SHA256"] + (["CRC32C", "CRC64NVME"] if HAS_CRT else []):
        for endpoint in [s3, client(SECURE_ENDPOINT)]:
            put = endpoint.put_object(Bucket=b, Key="c", Body=b"hello", ChecksumAlgorithm=algorithm)
            got = endpoint.get_object(Bucket=b, Key="c", ChecksumMode="ENABLED")
            equal(got["Body"].read(), b"hello")
            equal(got[f"Checksum{algorithm}"], put[f"Checksum{algorithm}"])
    refused("BadDigest", 400, s3.put_object, Bucket=b, Key="bad", Body=b"hello",
            ChecksumSHA256=base64.b64encode(bytes(32)).decode())
    refused("InvalidRequest", 400, s3.put_object, Bucket=b, Key="bad", Body=b"hello", ChecksumSHA256="AAAA")
    refused("BadDigest", 400, s3.put_object, Bucket=b, Key="bad", Body=b"hello",
            ContentMD5=base64.b64encode(bytes(16)).decode())
    refused("InvalidDigest", 400, s3.put_object, Bucket=b, Key="bad", Body=b"hello", ContentMD5="x")
    refused("NoSuchKey", 404, s3.get_object, Bucket=b, Key="bad")


@case
def presigned():
    b = bucket("presigned")
    for options in [{}, {"signature_version": "s3v4"}, {"signature_version": "s3"}]:
        c = client(**options)
        url = c.generate_presigned_url("put_object", Params={"Bucket": b, "Key": "p q"})
        request = urllib.request.Request(url, data=b"by url", method="PUT", headers={"Content-Type": ""})
        urllib.request.urlopen(request).read()
        url = c.generate_presigned_url("get_object", Params={"Bucket": b, "Key": "p q", "ResponseContentType": "a/b"})
        answer = urllib.request.urlopen(url)
        equal((answer.read(), answer.headers["Content-Type"]), (b"by url", "a/b"))
        for broken in [url.replace("p%20q", "other"), url[:-2] + ("00" if url[-2:] != "00" else "11")]:
            try:
                urllib.request.urlopen(broken)
                raise AssertionError("a broken address was served")
            except urllib.error.HTTPError as error:
                equal(error.code, 403)
        try:
            urllib.request.urlopen(c.generate_presigned_url("get_object", Params={"Bucket": b, "Key": "p q"}, ExpiresIn=-1))
            raise AssertionError("an expired address was served")
        except urllib.error.HTTPError as error:
            assert error.code in (400, 403), error.code


@case
def who_may_what():
    b = bucket("rights")
    s3.put_object(Bucket=b, Key="open", Body=b"1")
    refused("AccessDenied", 403, bob.put_object, Bucket=b, Key="x", Body=b"")
    refused("AccessDenied", 403, bob.delete_object, Bucket=b, Key="open")
    refused("AccessDenied", 403, bob.delete_bucket, Bucket=b)
    refused("AccessDenied", 403, anonymous.get_object, Bucket=b, Key="open")
    refused("AccessDenied", 403, anonymous.list_objects_v2, Bucket=b)
    refused("AccessDenied", 403, anonymous.put_object, Bucket=b, Key="x", Body=b"")
    refused("InvalidAccessKeyId", 403, client(key="nobody").list_buckets)
    refused("SignatureDoesNotMatch", 403, client(secret="wrong").list_buckets)
    s3.put_object(Bucket=b, Key="public", Body=b"2", ACL="public-read")
    equal(anonymous.get_object(Bucket=b, Key="public")["Body"].read(), b"2")
    grants = s3.get_object_acl(Bucket=b, Key="public")["Grants"]
    assert any(g["Permission"] == "READ" for g in grants), grants
    s3.put_object_acl(Bucket=b, Key="public", ACL="private")
    refused("AccessDenied", 403, anonymous.get_object, Bucket=b, Key="public")
    s3.put_bucket_acl(Bucket=b, ACL="public-read")
    equal(anonymous.list_objects_v2(Bucket=b)["KeyCount"], 2)
    s3.put_bucket_acl(Bucket=b, ACL="private")
    refused("AccessDenied", 403, anonymous.list_objects_v2, Bucket=b)
    # Who is signed in reads what the volume's users may, and nothing that is said to be private.
    b = bucket("rights-of-users")
    s3.put_object(Bucket=b, Key="usual", Body=b"3")
    s3.put_object(Bucket=b, Key="private", Body=b"4", ACL="private")
    equal(bob.get_object(Bucket=b, Key="usual")["Body"].read(), b"3")
    refused("AccessDenied", 403, bob.get_object, Bucket=b, Key="private")
    equal(s3.get_object(Bucket=b, Key="private")["Body"].read(), b"4")


@case
def versions_for_good():
    b = bucket("versions-for-good")
    s3.put_bucket_versioning(Bucket=b, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_acl(Bucket=b, ACL="public-read-write")
    v = s3.put_object(Bucket=b, Key="k", Body=b"1")["VersionId"]
    refused("AccessDenied", 403, anonymous.delete_object, Bucket=b, Key="k", VersionId=v)
    answer = anonymous.delete_objects(Bucket=b, Delete={"Objects": [{"Key": "k", "VersionId": v}]})
    equal([e["Code"] for e in answer["Errors"]], ["AccessDenied"])
    equal(s3.get_object(Bucket=b, Key="k", VersionId=v)["Body"].read(), b"1")


@case
def keys_for_a_while():
    b = bucket("keys-for-a-while")
    made = subprocess.run(
        [os.environ["SERVER"], "user", "key", "add", "alice", "--for", "1h", "--json", "--data", os.environ["SERVER_DATA"]],
        check=True, capture_output=True, timeout=20)
    key = json.loads(made.stdout)

    def session(token, version="s3v4"):
        return boto3.client(
            "s3", endpoint_url=ENDPOINT, aws_access_key_id=key["access_key"], aws_secret_access_key=key["secret_key"],
            aws_session_token=token, config=Config(retries={"max_attempts": 1}, signature_version=version))

    mine = session(key["session_token"])
    mine.put_object(Bucket=b, Key="k", Body=b"1")
    equal(s3.get_object(Bucket=b, Key="k")["Body"].read(), b"1")
    for version in ("s3v4", "s3"):
        address = session(key["session_token"], version).generate_presigned_url("get_object", Params={"Bucket": b, "Key": "k"})
        equal(urllib.request.urlopen(address, timeout=20).read(), b"1")
    refused("InvalidAccessKeyId", 403, session(None).list_buckets)
    refused("InvalidToken", 400, session(key["session_token"][:-4] + "AAA=").list_buckets)


@case
def buckets_as_hosts():
    b = bucket("as-a-host")
    look_up = socket.getaddrinfo

    def found(host, *rest, **more):
        # Not every machine knows that all below `localhost` is itself.
        name = host.decode() if isinstance(host, bytes) else host
        return look_up("127.0.0.1" if name.endswith(".localhost") else host, *rest, **more)

    socket.getaddrinfo = found
    try:
        virtual = client(
            endpoint=ENDPOINT.replace("127.0.0.1", "localhost"), s3={"addressing_style": "virtual"})
        virtual.put_object(Bucket=b, Key="d/k", Body=b"1")
        equal(virtual.get_object(Bucket=b, Key="d/k")["Body"].read(), b"1")
        equal([o["Key"] for o in virtual.list_objects_v2(Bucket=b)["Contents"]], ["d/k"])
        made = virtual.create_multipart_upload(Bucket=b, Key="m")["UploadId"]
        tag = virtual.upload_part(Bucket=b, Key="m", UploadId=made, PartNumber=1, Body=b"2")["ETag"]
        done = virtual.complete_multipart_upload(
            Bucket=b, Key="m", UploadId=made, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
        assert done["Location"].endswith("/m") and f"{b}.localhost" in done["Location"], done["Location"]
    finally:
        socket.getaddrinfo = look_up
    equal(s3.get_object(Bucket=b, Key="d/k")["Body"].read(), b"1")


@case
def policies():
    b = bucket("policies")
    s3.put_object(Bucket=b, Key="pub/x", Body=b"1")
    s3.put_object(Bucket=b, Key="sec/x", Body=b"2")

    def policy(*statements):
        return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})

    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{b}/pub/*"}
    s3.put_bucket_policy(Bucket=b, Policy=policy(everybody))
    equal(json.loads(s3.get_bucket_policy(Bucket=b)["Policy"])["Statement"], [everybody])
    equal(s3.get_bucket_policy_status(Bucket=b)["PolicyStatus"]["IsPublic"], True)
    equal(anonymous.get_object(Bucket=b, Key="pub/x")["Body"].read(), b"1")
    refused("AccessDenied", 403, anonymous.get_object, Bucket=b, Key="sec/x")
    refused("AccessDenied", 403, anonymous.list_objects_v2, Bucket=b)
    refused("AccessDenied", 403, anonymous.put_object, Bucket=b, Key="pub/y", Body=b"")
    refused("AccessDenied", 403, bob.put_object, Bucket=b, Key="in/y", Body=b"")
    s3.put_bucket_policy(Bucket=b, Policy=policy(
        {"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::1:user/bob"]}, "Action": ["s3:PutObject", "s3:DeleteObject"],
         "Resource": f"arn:aws:s3:::{b}/in/*"},
        {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{b}/in/no*"},
        {"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{b}",
         "Condition": {"StringLike": {"s3:prefix": "pub*"}, "IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}}))
    bob.put_object(Bucket=b, Key="in/y", Body=b"3")
    refused("AccessDenied", 403, bob.put_object, Bucket=b, Key="in/no", Body=b"")
    refused("AccessDenied", 403, s3.put_object, Bucket=b, Key="in/no", Body=b"")
    refused("AccessDenied", 403, bob.put_object, Bucket=b, Key="out", Body=b"")
    equal(anonymous.list_objects_v2(Bucket=b, Prefix="pub")["KeyCount"], 1)
    refused("AccessDenied", 403, anonymous.list_objects_v2, Bucket=b)
    answer = bob.delete_objects(Bucket=b, Delete={"Objects": [{"Key": "in/y"}, {"Key": "in/no"}, {"Key": "pub/x"}]})
    equal([d["Key"] for d in answer["Deleted"]], ["in/y"])
    equal([e["Code"] for e in answer["Errors"]], ["AccessDenied", "AccessDenied"])
    refused("AccessDenied", 403, bob.put_bucket_policy, Bucket=b, Policy=policy(everybody))
    for bad in ["x", policy({**everybody, "Effect": "Maybe"}), policy({**everybody, "Resource": "arn:aws:s3:::other/*"}),
                policy({**everybody, "Condition": {"DateGreaterThan": {"aws:CurrentTime": "x"}}}), policy()]:
        refused("MalformedPolicy", 400, s3.put_bucket_policy, Bucket=b, Policy=bad)
    s3.delete_bucket_policy(Bucket=b)
    refused("NoSuchBucketPolicy", 404, s3.get_bucket_policy, Bucket=b)


@case
def other_sites():
    b = bucket("cors")
    s3.put_object(Bucket=b, Key="x", Body=b"1", ACL="public-read")

    def ask(method, **headers):
        request = urllib.request.Request(f"{ENDPOINT}/{b}/x", method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
        try:
            answer = urllib.request.urlopen(request)
            return answer.status, dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers)

    equal(ask("OPTIONS", Origin="http://a.example", Access_Control_Request_Method="PUT")[0], 403)
    s3.put_bucket_cors(Bucket=b, CORSConfiguration={"CORSRules": [{
        "AllowedOrigins": ["http://*.example"], "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["x-amz-*"],
        "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 30}]})
    equal(s3.get_bucket_cors(Bucket=b)["CORSRules"][0]["MaxAgeSeconds"], 30)
    status, headers = ask("OPTIONS", Origin="http://a.example", Access_Control_Request_Method="PUT",
                          Access_Control_Request_Headers="x-amz-acl")
    equal((status, headers["access-control-allow-origin"], headers["access-control-max-age"]), (200, "http://a.example", "30"))
    equal(ask("OPTIONS", Origin="http://a.example", Access_Control_Request_Method="DELETE")[0], 403)
    equal(ask("OPTIONS", Origin="http://a.test", Access_Control_Request_Method="GET")[0], 403)
    equal(ask("GET", Origin="http://a.example")[1]["access-control-expose-headers"], "ETag")
    assert "access-control-allow-origin" not in ask("GET", Origin="http://a.test")[1]
    s3.delete_bucket_cors(Bucket=b)
    refused("NoSuchCORSConfiguration", 404, s3.get_bucket_cors, Bucket=b)


@case
def forms():
    b = bucket("forms")

    def post(fields, content, name="f.bin"):
        boundary = "----boundary7"
        parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
                     "Content-Type: a/b\r\n\r\n".encode() + content + f"\r\n--{boundary}--\r\n".encode())
        request = urllib.request.Request(f"{ENDPOINT}/{b}", data=b"".join(parts), method="POST",
                                         headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
        try:
            answer = urllib.request.urlopen(request)
            return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    for options in [{}, {"signature_version": "s3v4"}]:
        c = client(**options)
        for content in [b"", b"by form\r\n--", os.urandom(400_000) + b"\r\n----boundar"]:
            form = c.generate_presigned_post(b, "up/${filename}", Fields={"x-amz-meta-a": "b"},
                                             Conditions=[{"x-amz-meta-a": "b"}, ["content-length-range", 0, 1 << 20]])
            equal(post(form["fields"], content)[0], 204)
            got = s3.get_object(Bucket=b, Key="up/f.bin")
            equal((got["Body"].read(), got["ContentType"], got["Metadata"]), (content, "a/b", {"a": "b"}))
            equal(got["ETag"], f'"{hashlib.md5(content).hexdigest()}"')
        form = c.generate_presigned_post(b, "small", Conditions=[["content-length-range", 1, 3]])["fields"]
        status, text = post(form, b"1234")
        assert status == 400 and "EntityTooLarge" in text, text
        status, text = post({**form, "x-amz-meta-z": "1"}, b"123")
        assert status == 403 and "Extra input fields" in text, text
        status, text = post({**form, "policy": form["policy"][:-4] + "AAAA"}, b"123")
        assert status == 403 and "SignatureDoesNotMatch" in text, text
        equal(post(form, b"123")[0], 204)
    status, text = post({"key": "x"}, b"1")
    equal(status, 403)


@case
def settings():
    b = bucket("settings")
    refused("NoSuchTagSet", 404, s3.get_bucket_tagging, Bucket=b)
    s3.put_bucket_tagging(Bucket=b, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    equal(s3.get_bucket_tagging(Bucket=b)["TagSet"], [{"Key": "a", "Value": "b"}])
    s3.delete_bucket_tagging(Bucket=b)
    refused("NoSuchCORSConfiguration", 404, s3.get_bucket_cors, Bucket=b)
    refused("NoSuchBucketPolicy", 404, s3.get_bucket_policy, Bucket=b)
    refused("NoSuchLifecycleConfiguration", 404, s3.get_bucket_lifecycle_configuration, Bucket=b)
    equal(s3.get_bucket_versioning(Bucket=b).get("Status"), None)
    refused("NotImplemented", 501, s3.put_bucket_encryption, Bucket=b, ServerSideEncryptionConfiguration={
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]})
    refused("NotImplemented", 501, s3.put_object, Bucket=b, Key="x", Body=b"", ServerSideEncryption="AES256")


@case
def transfers():
    b = bucket("transfers")
    body = os.urandom(21 << 20)
    for endpoint in [s3, client(SECURE_ENDPOINT)]:
        with open("/dev/shm/proxyfs-s3-transfer", "wb") as file:
            file.write(body)
        try:
            endpoint.upload_file("/dev/shm/proxyfs-s3-transfer", b, "big", Config=TransferConfig(max_concurrency=4))
            endpoint.download_file(b, "big", "/dev/shm/proxyfs-s3-transfer")
            with open("/dev/shm/proxyfs-s3-transfer", "rb") as file:
                equal(hashlib.md5(file.read()).hexdigest(), hashlib.md5(body).hexdigest())
        finally:
            os.unlink("/dev/shm/proxyfs-s3-transfer")


run()
