"""fight.py SERVER FOLDER STORE ROUNDS PROXY PORT...: two servers fight for one volume on a real store.

STORE is a file with its [[store]] section, named "ring", in which @0@, @1@ ... are the ports behind which a server of ours sees the
store's PORTs: each has ways of its own (PROXY, fault-proxy), so that one of them alone can be cut off. The volume's log is in the
store and it has a lease. In each round the one that does not have the volume takes it while clients use the other:

  plain   both reach the store
  stop    the owner's process stands still meanwhile, and wakes afterwards
  cut     the owner does not reach the store meanwhile
  both    the owner is gone, its log with it, and both take at once

Where STORE is "directory", both have the same data directory, and its lock decides:

  plain   the other one starts while the owner has it, and is refused
  stop    the same, while the owner's process stands still
  kill    the owner is killed while clients use it, and the other one starts
  both    the owner is killed, and both start at once

From the moment on at which `volume take` has returned, whoever asks the other one afresh gets no answer that says that anything
went well; and all that it acknowledged before is there."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import signature
from ports import free_ports

server, folder, description, rounds, proxy, *ports = sys.argv[1:]
rounds = int(rounds)
LEASE, DRIFT = 3, 0.5
is_directory = description == "directory"
KINDS = ["kill", "stop", "plain", "both"] if is_directory else ["cut", "stop", "plain", "both"]
chance = random.Random(rounds)


PLACE = f"""store = "ring"
log = "store"
lease = "{LEASE}s"
"""


class Server:
    """One of the two, with its ways to the store."""

    def __init__(self, name):
        self.name, self.generation, self.process = name, 0, None
        self.port, admin = free_ports(2)
        self.config = f"{folder}/{name}.toml"
        self.ways, self.seen = [], []
        for port in ports:
            way = subprocess.Popen([proxy, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.ways.append(way)
            self.seen.append(way.stdout.readline().strip())
        text = "" if is_directory else open(description).read()
        for index, port in enumerate(self.seen):
            text = text.replace(f"@{index}@", port)
        self.text = f"""
[ports]
nfs = 0
smb = 0
http = {self.port}
admin = {admin}
[engine]
checkpoint_interval = "1s"
lease_drift = "{int(DRIFT * 1000)}ms"
{text}
[[volume]]
name = "own"
[[volume]]
name = "prize"
{"" if is_directory else PLACE}
[[user]]
name = "alice"
secret = "alice-secret"
volumes = ["prize"]
"""

    def start(self):
        with open(self.config, "w") as file:
            data = "data" if is_directory else f"{self.name}-{self.generation}"
            file.write(f'data = "{folder}/{data}"\n{self.text}')
        log = open(f"{folder}/{self.name}.log", "a")
        self.process = subprocess.Popen(
            [server, "serve", "--config", self.config], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
        line = self.process.stdout.readline()
        if line.startswith("proxyfs: ready"):
            return True
        if not is_directory or self.process.wait(60) == 0 or "is in use by process" not in open(log.name).read().splitlines()[-1]:
            sys.exit(f"fight: {self.name} did not start: {line}")
        return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        for way in self.ways:
            way.kill()
        if self.process and self.process.poll() is None:
            self.kill()

    def say(self, word):
        for way in self.ways:
            way.stdin.write(word + "\n")
            way.stdin.flush()

    def command(self, *words, limit=60):
        done = subprocess.run(
            [server, "volume", *words, "--config", self.config], capture_output=True, text=True, timeout=limit
        )
        return done.returncode, done.stdout + done.stderr

    def state(self):
        status, text = self.command("list", "--json")
        if status != 0:
            sys.exit(f"fight: volume list on {self.name}: {text}")
        return next(row for row in json.loads(text) if row["name"] == "prize")

    def request(self, method, path, body=b"", limit=20):
        """The answer's body; None: no answer, or none that says that it went well."""
        url = f"http://127.0.0.1:{self.port}/{path}"
        headers = signature.headers(method, url, body, "prize:alice", "alice-secret")
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            request = urllib.request.Request(url, data=body if method == "PUT" else None, headers=headers, method=method)
            with opener.open(request, timeout=limit) as answer:
                return answer.read()
        except (OSError, urllib.error.HTTPError):
            return None


def wait(what, seconds, condition):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"fight: {what}")
        time.sleep(0.1)


class Clients:
    """Who use one server until they are told to stop; they write down when they asked, and what was answered."""

    def __init__(self, owner, number):
        self.owner, self.number, self.isOver = owner, number, False
        self.acknowledged, self.read, self.lock = [], [], threading.Lock()
        self.threads = [threading.Thread(target=self.write, args=(index,), daemon=True) for index in range(3)]
        self.threads.append(threading.Thread(target=self.look, daemon=True))
        for thread in self.threads:
            thread.start()

    def write(self, thread):
        count = 0
        while not self.isOver:
            count += 1
            path = f"files/{self.number}/{thread}/{count}"
            asked = time.monotonic()
            if self.owner.request("PUT", path, content(path)) is not None:
                with self.lock:
                    self.acknowledged.append((asked, path))

    def look(self):
        while not self.isOver:
            asked = time.monotonic()
            if self.owner.request("GET", "files/counter") is not None:
                with self.lock:
                    self.read.append(asked)
            time.sleep(0.02)

    def end(self):
        self.isOver = True
        for thread in self.threads:
            thread.join()


class Latecomers:
    """From now on each 100 ms somebody asks the server who has asked nothing before."""

    def __init__(self, owner, number):
        self.owner, self.number, self.isOver, self.answered, self.threads = owner, number, False, [], []
        self.caller = threading.Thread(target=self.call, daemon=True)
        self.caller.start()

    def call(self):
        while not self.isOver:
            one = threading.Thread(target=self.ask, args=(len(self.threads),), daemon=True)
            self.threads.append(one)
            one.start()
            time.sleep(0.1)

    def ask(self, index):
        path = f"files/late/{self.number}/{index}"
        method, path = [("PUT", path), ("GET", "files/counter")][index % 2]
        answer = self.owner.request(method, path, content(path) if method == "PUT" else b"", limit=10)
        if answer is not None:
            self.answered.append(f"{method} {path}: {answer[:20]}")

    def end(self):
        self.isOver = True
        self.caller.join()
        for one in self.threads:
            one.join()
        return self.answered


def content(path):
    return hashlib.shake_128(path.encode()).digest(20_000 if path.endswith("7") else 200)


def check(taker, paths):
    for path in paths:
        if taker.request("GET", path) != content(path):
            sys.exit(f"fight: {path} was acknowledged, and is not there")


def take(taker):
    begin = time.monotonic()
    status, text = taker.command("take", "prize")
    return status == 0, text, time.monotonic() - begin


def change(owner, taker, number, kind):
    """One round in which the owner lives. Answers how long the takeover took."""
    clients = Clients(owner, number)
    wait(f"round {number} ({kind}): the owner does nothing", 60, lambda: clients.acknowledged and clients.read)
    time.sleep(chance.uniform(0.5, 2))
    if kind == "stop":
        owner.process.send_signal(signal.SIGSTOP)
    if kind == "cut":
        owner.say("hang")
        time.sleep(chance.uniform(0, 1))
    good, text, seconds = take(taker)
    taken = time.monotonic()
    if not good:
        sys.exit(f"fight: round {number} ({kind}): the volume could not be taken: {text}")
    late = Latecomers(owner, number)
    if taker.request("PUT", "files/counter", b"%d" % number) is None:
        sys.exit(f"fight: round {number} ({kind}): the new owner takes nothing")
    time.sleep(1)
    if kind == "stop":
        owner.process.send_signal(signal.SIGCONT)
    time.sleep(2)
    owner.say("pass")
    wait(f"round {number} ({kind}): the one before did not give it up", 60, lambda: owner.state()["state"] == "not open")
    if answered := late.end():
        sys.exit(f"fight: round {number} ({kind}): who came too late was answered: {answered[:3]}")
    clients.end()
    late = [asked for asked, _ in clients.acknowledged if asked > taken]
    if late:
        sys.exit(f"fight: round {number} ({kind}): {len(late)} writes were acknowledged that were asked for too late")
    late = [asked for asked in clients.read if asked > taken]
    if late:
        sys.exit(f"fight: round {number} ({kind}): {len(late)} reads were answered that were asked for too late")
    check(taker, [path for _, path in clients.acknowledged])
    everything.extend(path for _, path in clients.acknowledged)
    return seconds, len(clients.acknowledged)


def hold(owner, other, number, kind):
    """One round in which a lock decides. Answers who has the volume, how long the takeover took if there was one, and the writes."""
    clients = Clients(owner, number)
    wait(f"round {number} ({kind}): the owner does nothing", 60, lambda: clients.acknowledged and clients.read)
    time.sleep(chance.uniform(0.5, 2))
    if kind == "kill":
        owner.kill()
    if kind == "stop":
        owner.process.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    good = other.start()
    seconds = time.monotonic() - begin
    if good != (kind == "kill"):
        sys.exit(f"fight: round {number} ({kind}): the other one {'started' if good else 'did not start'}")
    time.sleep(0.5)
    if kind == "stop":
        owner.process.send_signal(signal.SIGCONT)
    since = time.monotonic()
    time.sleep(0.5)
    clients.end()
    if kind != "kill" and not [asked for asked, _ in clients.acknowledged if asked > since]:
        sys.exit(f"fight: round {number} ({kind}): the owner does not go on")
    if kind == "kill" and owner.start():
        sys.exit(f"fight: round {number} ({kind}): two owners")
    winner = other if good else owner
    check(winner, [path for _, path in clients.acknowledged])
    everything.extend(path for _, path in clients.acknowledged)
    return winner, seconds if good else None, len(clients.acknowledged)


def at_once(do):
    """What each of the two answers."""
    results = {}

    def run(one):
        results[one] = do(one)

    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in (a, b)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def race(owner, number):
    """The owner is gone: both start or, without the owner's log, take at once."""
    owner.kill()
    if is_directory:
        begin = time.monotonic()
        owners = [one for one, good in at_once(Server.start).items() if good]
        seconds = {one: time.monotonic() - begin for one in owners}
        said = ""
    else:
        shutil.rmtree(f"{folder}/{owner.name}-{owner.generation}")
        owner.generation += 1
        owner.start()
        results = at_once(take)
        # One that opened it may have been overtaken at once.
        time.sleep(LEASE + 2)
        owners = [one for one in (a, b) if one.state()["state"] == "open"]
        seconds = {one: results[one][2] for one in owners}
        said = [results[one][1] for one in (a, b)]
    if len(owners) != 1:
        sys.exit(f"fight: round {number} (both): {len(owners)} owners; {said}")
    return owners[0], seconds[owners[0]]


everything = []
kinds = dict.fromkeys(KINDS, 0)
a, b = Server("a"), Server("b")
try:
    a.start()
    if b.start() == is_directory:
        sys.exit("fight: two servers over one directory")
    wait("nobody has the volume", 30, lambda: a.state()["state"] == "open")
    if not is_directory:
        wait("the second server has it, too", 30, lambda: b.state()["state"] == "not open")
    if a.request("PUT", "files") is None or a.request("PUT", "files/counter", b"0") is None:
        sys.exit("fight: the first owner takes nothing")
    owner, other, times, writes, wins = a, b, [], 0, {"a": 0, "b": 0}
    for number in range(1, rounds + 1):
        kind = KINDS[number % 4]
        if kind == "both":
            winner, seconds = race(owner, number)
        elif is_directory:
            winner, seconds, count = hold(owner, other, number, kind)
            writes += count
        else:
            winner = other
            seconds, count = change(owner, other, number, kind)
            writes += count
        owner, other = winner, a if winner is b else b
        kinds[kind] += 1
        # What was there before the round, too.
        check(owner, chance.sample(everything, min(20, len(everything))))
        wins[owner.name] += 1
        if seconds is not None:
            times.append(seconds)
    check(owner, chance.sample(everything, min(2_000, len(everything))))
    owner.process.send_signal(signal.SIGTERM)
    if owner.process.wait(60) != 0:
        sys.exit("fight: the last owner did not stop as it should")
    found = subprocess.run([server, "fsck", "prize", "--config", owner.config], capture_output=True, text=True)
    # What an owner had on its way when it was overtaken is nobody's, and goes with the next opening.
    wrong = [line for line in found.stdout.splitlines() if line and not line.endswith(("nothing names this object", "differences"))]
    if wrong or found.returncode not in (0, 1):
        sys.exit(f"fight: fsck: {found.stdout}{found.stderr}")
    print(
        f"fight: {rounds} rounds ({', '.join(f'{kind} {count}' for kind, count in kinds.items())}), {wins['a']} and {wins['b']} won, {writes} writes acknowledged and all there, "
        f"taken in {min(times):.1f} to {max(times):.1f} s with {'the lock of a directory' if is_directory else f'a lease of {LEASE} s'}"
    )
finally:
    for one in (a, b):
        if one.process and one.process.poll() is None:
            one.process.send_signal(signal.SIGCONT)
        one.end()
