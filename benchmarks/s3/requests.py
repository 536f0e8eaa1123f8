#!/usr/bin/env python3
"""requests.py HOST:PORT KEY:SECRET BUCKET get|put|list SIZE COUNT FILE [PATH]: signed requests for `load`, which are good
for a quarter of an hour. PUT with UNSIGNED-PAYLOAD: what a client over TLS sends."""
import datetime
import hashlib
import hmac
import os
import struct
import sys

host, credentials, bucket, kind, size, count, name = sys.argv[1:8]
size, count = int(size), int(count)
key, secret = credentials.rsplit(":", 1)
now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
day = now[:8]
scope = f"{day}/us-east-1/s3/aws4_request"
signing = ("AWS4" + secret).encode()
for part in (day, "us-east-1", "s3", "aws4_request"):
    signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()


def request(method, path, query, body):
    sha = "UNSIGNED-PAYLOAD"
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = f"{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{sha}\nx-amz-date:{now}\n\n{names}\n{sha}"
    to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n" + hashlib.sha256(canonical.encode()).hexdigest()
    signature = hmac.new(signing, to_sign.encode(), hashlib.sha256).hexdigest()
    head = (f"{method} {path}{'?' + query if query else ''} HTTP/1.1\r\nHost: {host}\r\nx-amz-date: {now}\r\n"
            f"x-amz-content-sha256: {sha}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}\r\n")
    if method == "PUT":
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


with open(name, "wb") as file:
    body = os.urandom(size) if kind == "put" else b""
    for index in range(count):
        if kind == "list":
            one = request("GET", f"/{bucket}", sys.argv[8], b"")
        elif kind == "bucket":
            one = request("PUT", f"/{bucket}", "", b"")
        else:
            one = request(kind.upper(), f"/{bucket}/o{size}/{index}", "", body)
        file.write(struct.pack("<I", len(one)) + one)
