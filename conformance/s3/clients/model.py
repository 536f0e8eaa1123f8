"""Each operation, header and parameter of the API, as boto3's own model of it has them. What is not served answers 501, or what S3
says of a bucket that has none; what a new model adds fails here until somebody has decided about it. Nothing is changed by any of it."""
import gzip
import json
import os
import urllib.error
import urllib.parse
import urllib.request

import boto3
import botocore
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from support import ENDPOINT, case, equal, run

path = os.path.join(os.path.dirname(botocore.__file__), "data", "s3", "2006-03-01", "service-2.json")
model = json.load(gzip.open(path + ".gz") if os.path.exists(path + ".gz") else open(path))
s3 = boto3.client("s3", endpoint_url=ENDPOINT, config=Config(retries={"max_attempts": 1}))

SERVED = set("""
AbortMultipartUpload CompleteMultipartUpload CopyObject CreateBucket CreateMultipartUpload DeleteBucket DeleteBucketCors
DeleteBucketLifecycle DeleteBucketPolicy DeleteBucketTagging DeleteObject DeleteObjectTagging DeleteObjects GetBucketAcl
GetBucketCors GetBucketLifecycle GetBucketLifecycleConfiguration GetBucketLocation GetBucketPolicy GetBucketPolicyStatus
GetBucketTagging GetBucketVersioning GetObject GetObjectAcl GetObjectAttributes GetObjectLegalHold GetObjectLockConfiguration
GetObjectRetention GetObjectTagging HeadBucket HeadObject ListBuckets ListDirectoryBuckets ListMultipartUploads
ListObjectVersions ListObjects ListObjectsV2 ListParts PutBucketAcl PutBucketCors PutBucketLifecycle
PutBucketLifecycleConfiguration PutBucketPolicy PutBucketTagging PutBucketVersioning PutObject PutObjectAcl PutObjectLegalHold
PutObjectLockConfiguration PutObjectRetention PutObjectTagging UploadPart UploadPartCopy
""".split())
# S3's own answers of a bucket that has none of it.
NONE = {
    "GetBucketAccelerateConfiguration": 200, "GetBucketEncryption": 404, "GetBucketLogging": 200, "GetBucketNotification": 200,
    "GetBucketNotificationConfiguration": 200, "GetBucketOwnershipControls": 404, "GetPublicAccessBlock": 404,
    "GetBucketReplication": 404, "GetBucketRequestPayment": 200, "GetBucketWebsite": 404, "DeleteBucketEncryption": 204,
    "DeleteBucketOwnershipControls": 204, "DeletePublicAccessBlock": 204, "DeleteBucketReplication": 204,
    "DeleteBucketWebsite": 204,
}
FIELDS = set("""
cache-control content-disposition content-encoding content-language content-length content-md5 content-type expires if-match
if-modified-since if-none-match if-unmodified-since range x-amz-acl x-amz-bucket-object-lock-enabled
x-amz-bypass-governance-retention x-amz-checksum-algorithm x-amz-checksum-crc32 x-amz-checksum-crc32c x-amz-checksum-crc64nvme
x-amz-checksum-mode x-amz-checksum-sha1 x-amz-checksum-sha256 x-amz-checksum-type x-amz-copy-source x-amz-copy-source-if-match
x-amz-copy-source-if-modified-since x-amz-copy-source-if-none-match x-amz-copy-source-if-unmodified-since
x-amz-copy-source-range x-amz-expected-bucket-owner x-amz-max-parts x-amz-meta- x-amz-metadata-directive x-amz-mp-object-size
x-amz-object-attributes x-amz-object-lock-legal-hold x-amz-object-lock-mode x-amz-object-lock-retain-until-date
x-amz-object-ownership x-amz-part-number-marker x-amz-source-expected-bucket-owner x-amz-storage-class x-amz-tagging
x-amz-tagging-directive
""".split())
# They ask for nothing that could be left undone: what they speak of is not there, or is refused by its own name.
IDLE = set("""
x-amz-bucket-object-lock-token x-amz-confirm-remove-self-bucket-access x-amz-mfa x-amz-object-annotation-directive
x-amz-optional-object-attributes x-amz-request-payer x-amz-sdk-checksum-algorithm x-amz-transition-default-minimum-object-size
""".split())
REFUSED = set("""
x-amz-bucket-namespace x-amz-checksum-md5 x-amz-checksum-sha512 x-amz-checksum-xxhash128 x-amz-checksum-xxhash3
x-amz-checksum-xxhash64 x-amz-copy-source-server-side-encryption-customer-algorithm
x-amz-copy-source-server-side-encryption-customer-key x-amz-copy-source-server-side-encryption-customer-key-md5
x-amz-grant-full-control x-amz-grant-read x-amz-grant-read-acp x-amz-grant-write x-amz-grant-write-acp
x-amz-if-match-initiated-time x-amz-if-match-last-modified-time x-amz-if-match-size x-amz-object-lock-event-hold
x-amz-object-lock-event-hold-duration-days x-amz-object-lock-event-hold-duration-years x-amz-server-side-encryption
x-amz-server-side-encryption-aws-kms-key-id x-amz-server-side-encryption-bucket-key-enabled
x-amz-server-side-encryption-context x-amz-server-side-encryption-customer-algorithm
x-amz-server-side-encryption-customer-key x-amz-server-side-encryption-customer-key-md5 x-amz-website-redirect-location
x-amz-write-offset-bytes
""".split())
PARAMETERS = set("""
bucket-region continuation-token delimiter encoding-type fetch-owner key-marker marker max-buckets max-directory-buckets
max-keys max-parts max-uploads part-number-marker partNumber prefix response-cache-control response-content-disposition
response-content-encoding response-content-language response-content-type response-expires start-after upload-id-marker
uploadId version-id-marker versionId
""".split())
REQUIRED = {"uploadId": "0" * 32, "partNumber": "1"}


def members(operation):
    shape = model["operations"][operation].get("input")
    return model["shapes"][shape["shape"]]["members"].values() if shape else []


def ask(operation, fields=None):
    """The status of its least request, about what is there."""
    http = model["operations"][operation]["http"]
    target = http["requestUri"].replace("{Bucket}", "model").replace("{Key+}", "k")
    shape = model["operations"][operation].get("input")
    for name in model["shapes"][shape["shape"]].get("required", []) if shape else []:
        member = model["shapes"][shape["shape"]]["members"][name]
        if member.get("location") == "querystring":
            target += ("&" if "?" in target else "?") + member["locationName"] + "=" + REQUIRED.get(member["locationName"], "x")
    body = b"<x/>" if http["method"] in ("PUT", "POST") else b""
    request = AWSRequest(method=http["method"], url=ENDPOINT + target, data=body, headers=fields or {})
    S3SigV4Auth(Credentials("alice", "alice-secret"), "s3", "us-east-1").add_auth(request)
    prepared = request.prepare()
    sent = urllib.request.Request(prepared.url, data=body or None, method=http["method"], headers=dict(prepared.headers))
    try:
        with urllib.request.urlopen(sent, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.read()
        return error.code


def state():
    return (
        [b["Name"] for b in s3.list_buckets()["Buckets"]],
        [(o["Key"], o["ETag"], o["LastModified"]) for o in s3.list_objects_v2(Bucket="model")["Contents"]],
        s3.head_object(Bucket="model", Key="k")["Metadata"],
        s3.list_multipart_uploads(Bucket="model").get("Uploads"),
        s3.get_bucket_acl(Bucket="model")["Grants"],
    )


s3.create_bucket(Bucket="model")
s3.put_object(Bucket="model", Key="k", Body=b"content", Metadata={"colour": "red"})
before = state()


@case
def operations():
    found = {}
    for operation in sorted(model["operations"]):
        if operation in SERVED:
            if model["operations"][operation]["http"]["method"] in ("GET", "HEAD"):
                status = ask(operation)
                assert status in (200, 400, 404), (operation, status)
            continue
        fields = {m["locationName"]: "x" for m in members(operation) if m.get("locationName", "").startswith("x-amz-request-")}
        found[operation] = ask(operation, fields)
    equal({o: s for o, s in found.items() if s != NONE.get(o, 501)}, {})
    equal(state(), before)


@case
def fields():
    known = FIELDS | IDLE | REFUSED
    for operation in sorted(SERVED):
        for member in members(operation):
            if member.get("location") not in ("header", "headers"):
                continue
            name = member["locationName"].lower()
            assert name in known, f"{name} of {operation}: nobody has decided about it"
            if name in REFUSED:
                equal((operation, name, ask(operation, {name: "1"})), (operation, name, 501))
    equal(state(), before)


@case
def parameters():
    for operation in sorted(SERVED):
        for member in members(operation):
            if member.get("location") == "querystring":
                assert member["locationName"] in PARAMETERS, f"{member['locationName']} of {operation}: nobody has decided about it"


run()
