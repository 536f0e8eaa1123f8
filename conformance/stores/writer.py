"""writer.py write|check URL BUCKET BOOK SECONDS: keeps a server's S3 busy and writes down what it has promised.

write: threads put objects, read some of them back, delete some; the book has a line for each answer that came. Ends after
SECONDS. check: everything in the book is as its last line says. Signs as s3request does."""

import hashlib
import os
import random
import subprocess
import sys
import threading
import time

here = os.path.dirname(os.path.abspath(__file__))
what, url, bucket, book, seconds = sys.argv[1:]


def body(name, size):
    return hashlib.shake_128(name.encode()).digest(size)


def request(method, name, data=None):
    """The answer's body; None: there was no good answer."""
    arguments = [os.path.join(here, "s3request"), method, f"{url}/{bucket}/{name}"]
    path = f"{book}.{threading.get_ident()}"
    if data is not None:
        with open(path, "wb") as file:
            file.write(data)
        arguments.append(path)
    done = subprocess.run(arguments, capture_output=True)
    if data is not None:
        os.unlink(path)
    return done.stdout if done.returncode == 0 else None


def write():
    lock = threading.Lock()
    end = time.monotonic() + float(seconds)
    counts = {"put": 0, "deleted": 0, "refused": 0}
    with open(book, "a", buffering=1) as log:

        def work(thread):
            chance = random.Random(thread)
            mine = []
            number = 0
            while time.monotonic() < end:
                number += 1
                name, size = f"t{thread}/{number}", chance.choice([0, 100, 5000, 200_000, 1_500_000])
                if mine and chance.random() < 0.1:
                    name, size = mine.pop(), -1
                # Before the answer it may be so or not.
                with lock:
                    log.write(f"asked {name} {size}\n")
                good = request("DELETE", name) if size < 0 else request("PUT", name, body(name, size))
                with lock:
                    counts["refused" if good is None else "deleted" if size < 0 else "put"] += 1
                    if good is not None:
                        log.write(f"done {name} {size}\n")
                if good is not None and size >= 0:
                    mine.append(name)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(f"writer: {counts['put']} put, {counts['deleted']} deleted, {counts['refused']} refused")


def check():
    promised = {}
    for line in open(book):
        word, name, size = line.split()
        promised[name] = (word, int(size))
    checked = 0
    for name, (word, size) in promised.items():
        if word != "done":
            continue
        found = request("GET", name)
        if size < 0:
            if found is not None:
                sys.exit(f"writer: {name} was deleted, and is there")
        elif found != body(name, size):
            what = "lost" if found is None else f"other bytes ({len(found)} of {size})"
            sys.exit(f"writer: {name} was acknowledged: {what}")
        checked += 1
    if checked == 0:
        sys.exit("writer: nothing was acknowledged at all")
    print(f"writer: {checked} of {len(promised)} names had an answer, and are as it said")


write() if what == "write" else check()
