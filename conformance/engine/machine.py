"""Rounds of the engine's load in a virtual machine that is killed at a random moment; the next one verifies what is left.

machine.py LINUX-CLIENT FOLDER ROUNDS SEED
"""
import os
import random
import signal
import subprocess
import sys
import time

client, folder, rounds, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
# As the program has them.
CALLERS = 16

# What the machine does: looks at what the one before it left, then works until it is killed.
SCRIPT = """
export LD_LIBRARY_PATH=/host/load
run() { /lib64/ld-linux-x86-64.so.2 --library-path /host/load /host/load/crash-load "$@"; }
mount /dev/vdc /mnt || exit 9
if [ -n "$BEFORE" ]; then
    run verify /mnt/round-$BEFORE $BEFORE $BEGUN $SYNCED $TOLD || exit 8
    rm -rf /mnt/round-$BEFORE
    echo verified
fi
[ -n "$NOW" ] || { umount /mnt; exit 0; }
mkdir /mnt/round-$NOW && sync
run load /mnt/round-$NOW $NOW
"""


def machine(before, begun, synced, told, now):
    """Answers the last step that was begun and the last one that was promised before it was killed, and what each caller beside was told."""
    environment = {"BEFORE": before, "BEGUN": begun, "SYNCED": synced, "TOLD": " ".join(map(str, told)), "NOW": now}
    command = [client, "--timeout", "300", "--disk", os.path.join(folder, "disk"), "--files", os.path.join(folder, "load")]
    for name, value in environment.items():
        command += ["--env", f"{name}={'' if value is None else value}"]
    # The shell says at each round that its machine was killed: only of a failure is that worth showing.
    said = open(os.path.join(folder, "said"), "w+")
    process = subprocess.Popen(command + ["-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said)
    process.stdin.write(SCRIPT.encode())
    process.stdin.close()
    begun = synced = -1
    told = [-1] * CALLERS
    verified = before is None
    end = None
    for line in process.stdout:
        words = line.split()
        if words[:1] == [b"verified"]:
            verified = True
        elif words[:1] == [b"ready"]:
            end = time.monotonic() + chance.uniform(0.5, 6)
        elif words[:1] == [b"begun"]:
            begun = int(words[1])
        elif words[:1] == [b"synced"]:
            synced = int(words[1])
        elif words[:1] == [b"told"]:
            told[int(words[1])] = int(words[2])
        elif words[:1] == [b"full"]:
            pass
        else:
            print(line.decode(errors="replace").rstrip())
        if end and time.monotonic() > end:
            # The machine goes at once: whoever started it kills it when it is told to stop.
            process.send_signal(signal.SIGTERM)
            break
    # What it said before it was gone.
    for line in process.stdout:
        words = line.split()
        if words[:1] == [b"begun"]:
            begun = int(words[1])
        elif words[:1] == [b"synced"]:
            synced = int(words[1])
        elif words[:1] == [b"told"] and len(words) == 3:
            told[int(words[1])] = int(words[2])
    status = process.wait()
    said.seek(0)
    if not verified or (now is not None and end is None):
        print(said.read())
    said.close()
    if not verified:
        sys.exit(f"round {before}: what it left is not what was promised, or could not be looked at (status {status})")
    if now is not None and end is None:
        sys.exit(f"round {now}: the load did not begin (status {status})")
    return begun, synced, told


steps = promised = beside = 0
before, begun, synced, told = None, None, None, []
for number in range(seed, seed + rounds):
    begun, synced, told = machine(before, begun, synced, told, number)
    before = number
    steps += begun + 1
    promised += synced + 1
    beside += sum(told) + CALLERS
machine(before, begun, synced, told, None)
if promised < rounds:
    sys.exit(f"only {promised} steps were promised in {rounds} rounds: nothing was tried")
print(f"{rounds} machines killed, {steps} steps, {promised} of them promised, {beside} files of {CALLERS} callers beside: all that was promised was there")
