"""Rounds of the engine's load, each cut off at a random moment, each verified.

rounds.py PROGRAM FOLDER ROUNDS SEED [FORGETTING-DISK]: kill -9 of the process; with a forgetting disk the power goes, too.
"""
import os
import random
import shutil
import subprocess
import sys
import time

program, folder, rounds, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
power = os.path.join(folder, ".power") if len(sys.argv) > 5 else None
chance = random.Random(seed)
# As the program has them.
CALLERS = 16


def switch(text):
    with open(power, "w") as file:
        file.write(text)


def cut_off(directory, number):
    """Runs the load for a while; answers the last step that was begun, the last one that was promised, and what each caller beside it was told."""
    load = subprocess.Popen([program, "load", directory, str(number)], stdout=subprocess.PIPE)
    begun = synced = -1
    told = [-1] * CALLERS
    end = None
    isFull = False
    os.set_blocking(load.stdout.fileno(), True)
    try:
        for line in load.stdout:
            words = line.split()
            if words[0] == b"ready":
                # Of every other one the store goes away, and the stage fills up.
                end = time.monotonic() + (chance.uniform(0.02, 0.6) if number % 2 else 10)
            elif words[0] == b"begun":
                begun = int(words[1])
            elif words[0] == b"synced":
                synced = int(words[1])
            elif words[0] == b"told":
                told[int(words[1])] = int(words[2])
            elif words[0] == b"full":
                if not isFull:
                    end = min(end, time.monotonic() + chance.uniform(0, 0.3))
                isFull = True
            else:
                raise SystemExit(f"round {number}: {line.decode().strip()}")
            if end and time.monotonic() > end:
                break
        if power:
            switch(f"off {number}" if chance.random() < 0.5 else "off")
        load.kill()
        # What it said before it died counts.
        for line in load.stdout:
            words = line.split()
            if words[0] == b"begun":
                begun = int(words[1])
            elif words[0] == b"synced" and not power:
                synced = int(words[1])
            elif words[0] == b"told" and not power:
                told[int(words[1])] = int(words[2])
    finally:
        load.kill()
        load.wait()
    if power:
        switch("on")
    return begun, synced, told, isFull


steps = promised = beside = full = 0
for number in range(seed, seed + rounds):
    directory = os.path.join(folder, f"round-{number}")
    os.mkdir(directory)
    if power:
        os.sync()
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    begun, synced, told, isFull = cut_off(directory, number)
    result = subprocess.run(
        [program, "verify", directory, str(number), str(begun), str(synced), *map(str, told)], capture_output=True, text=True, timeout=120
    )
    if result.returncode:
        print(f"round {number}: {begun} steps begun, {synced} promised: {result.stdout} {result.stderr}")
        sys.exit(1)
    steps += begun + 1
    promised += synced + 1
    beside += sum(told) + CALLERS
    full += isFull
    shutil.rmtree(directory)
if promised < rounds:
    sys.exit(f"only {promised} steps were promised in {rounds} rounds: nothing was tried")
if beside < rounds * CALLERS:
    sys.exit(f"the callers beside were told of {beside} files only in {rounds} rounds")
if rounds >= 10 and full < rounds // 4:
    sys.exit(f"the stage was full in {full} of {rounds} rounds only")
print(f"{rounds} rounds, {full} of them with a full stage, {steps} steps, {promised} of them promised, {beside} files of {CALLERS} callers beside: all that was promised was there")
