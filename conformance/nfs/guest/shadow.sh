# Random operations on files beside shadows of them, for SHADOW_SECONDS seconds or SHADOW_STEPS operations, by two mounts of one machine that share nothing
# in the client: what one has written and closed the other one reads. The seed is printed.
set -eu
mount_it() {
    mount -t nfs -o "vers=3,proto=tcp,nolock,nosharecache,port=$NFS_PORT,mountport=$NFS_PORT,mountproto=tcp" "$HOST:/default" "$1"
}
mkdir -p /run/other
mount_it /mnt
mount_it /run/other
steps=${SHADOW_STEPS:-0}
if [ "$steps" -gt 0 ]; then echo "seed $SEED, $steps operations"; else echo "seed $SEED, $SHADOW_SECONDS s"; fi
python3 - "$SEED" "$SHADOW_SECONDS" "$steps" <<'P'
import mmap, os, random, sys, time
r = random.Random(int(sys.argv[1]))
start = time.monotonic()
end, steps = start + float(sys.argv[2]), int(sys.argv[3])
os.makedirs("/mnt/shadow", exist_ok=True)
LONGEST = 400000
class File:
    def __init__(self, number):
        self.name, self.shadow, self.number = f"f{number}", bytearray(), number
        self.fd = os.open(self.path(), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    def path(self, root="/mnt"): return f"{root}/shadow/{self.name}"
    def again(self):
        os.close(self.fd)
        self.fd = os.open(self.path(), os.O_RDWR)
def compare(got, file, at, step):
    want = bytes(file.shadow[at:at + len(got)]) if len(got) else bytes(file.shadow[at:at + 1])
    if got != want: raise SystemExit(f"shadow: FAILED: step {step}: {file.name} from {at}: {len(got)} bytes differ from the shadow")
files = [File(n) for n in range(6)]
step, counts = 0, {}
while step < steps or (steps == 0 and time.monotonic() < end):
    step += 1
    file = r.choice(files)
    kind = r.choices(["write", "append", "read", "truncate", "sync", "forget", "other", "map", "rename", "new", "copy"],
                     [30, 8, 30, 6, 4, 2, 6, 4, 4, 2, 2])[0]
    counts[kind] = counts.get(kind, 0) + 1
    shadow = file.shadow
    if kind == "write":
        at, n = r.randrange(0, LONGEST * 3 // 4), r.choice([1, 10, 511, 4095, 4096, 4097, 32768, 70000])
        data = r.randbytes(n)
        if at > len(shadow): shadow.extend(bytes(at - len(shadow)))
        shadow[at:at + n] = data
        assert os.pwrite(file.fd, data, at) == n
    elif kind == "append" and len(shadow) < LONGEST:
        data = r.randbytes(r.randrange(1, 9000))
        file.again()
        fd = os.open(file.path(), os.O_WRONLY | os.O_APPEND)
        os.write(fd, data)
        os.close(fd)
        shadow.extend(data)
    elif kind == "read":
        at = r.randrange(0, LONGEST)
        got = os.pread(file.fd, r.choice([1, 100, 4096, 100000]), at)
        compare(got, file, at, step)
    elif kind == "truncate":
        n = r.randrange(0, LONGEST)
        os.ftruncate(file.fd, n)
        file.shadow = shadow[:n] + bytes(max(0, n - len(shadow)))
    elif kind == "sync": os.fsync(file.fd)
    elif kind == "forget":
        file.again()
        with open("/proc/sys/vm/drop_caches", "w") as f: f.write("3")
        assert os.fstat(file.fd).st_size == len(shadow), f"step {step}: size"
    elif kind == "other":
        # Close-to-open: the other mount sees it all once this one has closed it.
        file.again()
        with open(file.path("/run/other"), "rb") as f: compare(f.read(), file, 0, step)
        assert os.stat(file.path("/run/other")).st_size == len(shadow), f"step {step}: the other one's size"
    elif kind == "map" and len(shadow) > 0:
        at = r.randrange(0, len(shadow))
        data = r.randbytes(min(5000, len(shadow) - at))
        with mmap.mmap(file.fd, len(shadow)) as view:
            compare(bytes(view[:]), file, 0, step)
            view[at:at + len(data)] = data
            view.flush()
        shadow[at:at + len(data)] = data
    elif kind == "rename":
        old, file.name = file.path(), f"f{file.number}-{step}"
        os.rename(old, file.path())
    elif kind == "new":
        os.unlink(file.path())
        os.close(file.fd)
        files[files.index(file)] = File(1000 + step)
    elif kind == "copy" and len(shadow) > 0:
        os.fsync(file.fd)
        fd = os.open(f"/mnt/shadow/copy", os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        left = len(shadow)
        while left: left -= os.sendfile(fd, file.fd, len(shadow) - left, left)
        compare(os.pread(fd, len(shadow), 0), file, 0, step)
        os.close(fd)
for file in files:
    file.again()
    with open(file.path("/run/other"), "rb") as f: compare(f.read(), file, 0, step)
    os.close(file.fd)
print(f"{step} operations in {time.monotonic() - start:.0f} s:", counts)
P
rm -r /mnt/shadow
umount /run/other /mnt
echo "shadow: passed"
