# The server is killed and started again under the mount: processes at work carry on, and what they were told is there.
set -eu
fail() { echo "FAILED: $*"; exit 1; }
mount -t nfs -o "vers=3,proto=tcp,hard,timeo=30,nolock,port=$NFS_PORT,mountport=$NFS_PORT,mountproto=tcp" "$HOST:/default" /mnt
mkdir /mnt/restart
cat > /tmp/work.py <<'P'
"""Makes, writes, renames and removes; what it was told is done it writes into a book outside of the mount."""
import os, sys
number, book = sys.argv[1], open(f"/tmp/book-{sys.argv[1]}", "w", buffering=1)
home = f"/mnt/restart/{number}"
os.mkdir(home)
print("made", file=book)
log = os.open(f"{home}/log", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND)
step = 0
while not os.path.exists("/tmp/enough"):
    step += 1
    os.write(log, b"%08d\n" % step)
    os.fsync(log)
    print("log", step, file=book)
    fd = os.open(f"{home}/new", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(fd, b"x" * step)
    os.fsync(fd)
    os.close(fd)
    os.rename(f"{home}/new", f"{home}/file-{step}")
    print("file", step, file=book)
    if step % 3 == 0:
        os.unlink(f"{home}/file-{step - 1}")
        print("gone", step - 1, file=book)
P
cat > /tmp/append.py <<'P'
"""Appends through all restarts and asks for no safety until the end: what a dead server had taken is sent again."""
import os, time
log = os.open("/mnt/restart/appended", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
step = 0
while not os.path.exists("/tmp/enough"):
    step += 1
    line = (b"%08d " % step) * 200 + b"\n"
    assert os.write(log, line) == len(line)
    time.sleep(0.001)
    # Some is sent at once, some waits in the client.
    if step % 50 == 0: os.posix_fadvise(log, 0, 0, os.POSIX_FADV_DONTNEED)
os.fsync(log)
os.close(log)
open("/tmp/appended", "w").write(str(step))
P
python3 /tmp/append.py & pids=$!
for n in 1 2 3; do python3 /tmp/work.py $n & pids="$pids $!"; done
for n in $(seq "${KILLS:-6}"); do
    sleep 3
    python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2]))).recv(1)' "$HOST" "$CONTROL_PORT"
done
sleep 3
touch /tmp/enough
for pid in $pids; do wait "$pid" || fail "a process met an error"; done
echo 3 > /proc/sys/vm/drop_caches
python3 - <<'P'
import os
for number in "123":
    home, files, gone, last = f"/mnt/restart/{number}", set(), set(), 0
    for line in open(f"/tmp/book-{number}"):
        word, *rest = line.split()
        if word == "log": last = int(rest[0])
        elif word == "file": files.add(int(rest[0]))
        elif word == "gone": gone.add(int(rest[0]))
    assert open(f"{home}/log").read() == "".join("%08d\n" % n for n in range(1, last + 1)), number
    there = {int(name[5:]) for name in os.listdir(home) if name.startswith("file-")}
    assert there == files - gone, (number, there ^ (files - gone))
    for n in there: assert os.stat(f"{home}/file-{n}").st_size == n
    print(f"{number}: {last} steps")
    assert last > 10
P
python3 - <<'P'
steps = int(open("/tmp/appended").read())
with open("/mnt/restart/appended", "rb") as file:
    for step in range(1, steps + 1): assert file.readline() == (b"%08d " % step) * 200 + b"\n", step
    assert file.read() == b""
print(f"appended: {steps} lines")
assert steps > 1000
P
rm -r /mnt/restart
umount /mnt
echo "restart: passed"
