#!/usr/bin/env python3
"""upload.py memory|parts HOST:PORT KEY:SECRET BUCKET PID COUNT: an upload in parts, and one line of what was seen.

memory: COUNT bytes in two parts; how far the server's own memory (no files of the system's cache) grew behind its first tenth.
parts: COUNT parts of 5 MiB, copies of one object; how long the completion took."""
import os
import re
import socket
import sys
import threading
import time

from signing import Signer

kind, host, credentials, bucket, pid, count = sys.argv[1:7]
count = int(count)
address = host.rsplit(":", 1)
PART = 5 << 20


class Connection:
    def __init__(self):
        self.socket = socket.create_connection((address[0], int(address[1])))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def answer(self):
        while b"\r\n\r\n" not in self.rest:
            self.read()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        length = int(length.group(1)) if length else 0
        while len(self.rest) < length:
            self.read()
        body, self.rest = self.rest[:length], self.rest[length:]
        if not head.startswith(b"HTTP/1.1 2"):
            sys.exit(f"upload: {head.decode()}\n{body.decode()}")
        return head.decode(), body.decode()

    def read(self):
        piece = self.socket.recv(1 << 16)
        if not piece:
            sys.exit("upload: the server closed")
        self.rest += piece

    def send(self, method, path, query="", body=b"", fields=(), length=None):
        signer = Signer(host, credentials)
        self.socket.sendall(signer.head(method, path, query, len(body) if length is None else length, fields) + body)

    def head(self, path):
        """What an answer without a body says."""
        self.send("HEAD", path)
        while b"\r\n\r\n" not in self.rest:
            self.read()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        return head.decode()

    def call(self, *arguments, **named):
        self.send(*arguments, **named)
        return self.answer()


def begin(connection, path):
    return re.search("<UploadId>(.*)</UploadId>", connection.call("POST", path, "uploads=")[1]).group(1)


def completion(tags):
    parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in tags)
    return f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()


def memory():
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1])


def one_long_upload():
    connection = Connection()
    path = f"/{bucket}/long"
    upload = begin(connection, path)
    block = os.urandom(1 << 20)
    tags, seen, sent = [], [], 0
    began = time.monotonic()
    for number, length in enumerate((count // 2, count - count // 2), 1):
        connection.send("PUT", path, f"partNumber={number}&uploadId={upload}", length=length)
        left = length
        while left:
            connection.socket.sendall(block[:left])
            sent += min(left, len(block))
            left -= min(left, len(block))
            if sent % (64 << 20) < len(block):
                seen.append((sent, memory()))
        tags.append((number, re.search("(?i)etag: *(\\S+)", connection.answer()[0]).group(1)))
    took = time.monotonic() - began
    connection.call("POST", path, f"uploadId={upload}", body=completion(tags))
    early = max(kib for at, kib in seen if at <= max(count // 10, seen[0][0]))
    grown = max(kib for _, kib in seen) - early
    most = 64 << 10
    print(f"upload of {count / 1e9:.1f} GB at {count / took / 1e6:.0f} MB/s: {early >> 10} MiB of memory, {grown >> 10} MiB "
          f"more behind the first tenth, at most 64 wanted: {'held' if grown <= most else 'ABOVE'}")


def many_parts():
    connection = Connection()
    source = f"/{bucket}/part"
    connection.call("PUT", source, body=os.urandom(PART))
    path = f"/{bucket}/many-parts"
    upload = begin(connection, path)
    tags = {}

    def copy(first, step):
        own = Connection()
        for number in range(first, count + 1, step):
            body = own.call("PUT", path, f"partNumber={number}&uploadId={upload}",
                            fields=[("x-amz-copy-source", source)])[1]
            tags[number] = re.search("<ETag>(.*)</ETag>", body).group(1)

    threads = [threading.Thread(target=copy, args=(i + 1, 4)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    body = completion(sorted(tags.items()))
    began = time.monotonic()
    connection.call("POST", path, f"uploadId={upload}", body=body)
    took = (time.monotonic() - began) * 1000
    size = re.search("(?i)content-length: *(\\d+)", connection.head(path)).group(1)
    if int(size) != count * PART:
        sys.exit(f"upload: the object has {size} bytes")
    print(f"completing {count} parts took {took:.1f} ms, at most 100 wanted: {'held' if took <= 100 else 'ABOVE'}")


{"memory": one_long_upload, "parts": many_parts}[kind]()
