#!/usr/bin/env python3
"""Ports of loopback that nobody has, by TCP and UDP, and that no other test of this machine is given for a long while. None of those
that the system gives to outgoing connections: such a one can be taken before its server begins.

They follow one another. As a program: prints as many as its argument says, in one line. The unit tests count in the same file (Tests/TestSupport/FreePort.swift)."""
import fcntl, os, socket, struct, sys

FIRST, END = 12_000, 32_000


def is_free(port):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as one:
            try: one.bind(("0.0.0.0", port))
            except OSError: return False
    return True


def free_ports(count):
    found = []
    file = os.open(f"/tmp/proxyfs-test-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        last, = struct.unpack("=I", (os.pread(file, 4, 0) + bytes(4))[:4])
        for _ in range(END - FIRST):
            if len(found) == count: break
            last = (last + 1) % (END - FIRST)
            if not is_free(FIRST + last) or found and found[-1] + 1 != FIRST + last: found = []
            if is_free(FIRST + last): found.append(FIRST + last)
        else: raise OSError("no port is free")
        os.pwrite(file, struct.pack("=I", last), 0)
    finally: os.close(file)
    return found


if __name__ == "__main__":
    print(*free_ports(int(sys.argv[1])))
