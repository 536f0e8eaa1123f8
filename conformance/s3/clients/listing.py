"""All of 100,000 keys, in pages, by both versions of the listing, from a place in the middle, and by directories."""
import boto3
from botocore.config import Config

from support import ENDPOINT, SECURE_ENDPOINT, case, equal, run

expected = [f"d{n // 1000:03d}/o{n:09d}" for n in range(100_000)]


def pages(endpoint, call, **arguments):
    s3 = boto3.client("s3", endpoint_url=endpoint, verify=False, config=Config(retries={"max_attempts": 1}))
    return s3.get_paginator(call).paginate(Bucket="many", **arguments)


@case
def whole():
    for endpoint, call in [(ENDPOINT, "list_objects_v2"), (SECURE_ENDPOINT, "list_objects")]:
        equal([entry["Key"] for page in pages(endpoint, call) for entry in page["Contents"]], expected)


@case
def parts():
    found = [e["Key"] for page in pages(ENDPOINT, "list_objects_v2", StartAfter=expected[99_000]) for e in page["Contents"]]
    equal(found, expected[99_001:])
    found = [e["Key"] for page in pages(ENDPOINT, "list_objects_v2", Prefix="d07") for e in page["Contents"]]
    equal(found, expected[70_000:80_000])
    found = [p["Prefix"] for page in pages(ENDPOINT, "list_objects_v2", Delimiter="/") for p in page["CommonPrefixes"]]
    equal(found, [f"d{n:03d}/" for n in range(100)])


run()
