#!/usr/bin/env python3
"""requests.py HOST:PORT KEY:SECRET BUCKET get|put|list|bucket|fill SIZE COUNT FILE [QUERY|FIRST]: signed requests for `load`.
`fill` puts objects without bytes, a thousand to a directory, from the number FIRST on."""
import os
import struct
import sys

from signing import Signer

host, credentials, bucket, kind, size, count, name = sys.argv[1:8]
size, count = int(size), int(count)
signer = Signer(host, credentials)

with open(name, "wb") as file:
    body = os.urandom(size) if kind == "put" else b""
    for index in range(count):
        if kind == "list":
            one = signer.head("GET", f"/{bucket}", "&".join(sorted(sys.argv[8].split("&"))))
        elif kind == "bucket":
            one = signer.head("PUT", f"/{bucket}", length=0)
        elif kind == "fill":
            number = int(sys.argv[8]) + index
            one = signer.head("PUT", f"/{bucket}/d{number // 1000:03d}/o{number:09d}", length=0)
        else:
            one = signer.head(kind.upper(), f"/{bucket}/o{size}/{index}", length=size if kind == "put" else None) + body
        file.write(struct.pack("<I", len(one)) + one)
