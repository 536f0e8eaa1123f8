# In the machine: the kernel's client on an export at $HOST:$NFS_PORT. Ends with "files: passed".
set -eu
step() { echo "-- $*"; }
mount_it() {
    mount -t nfs -o "vers=3,proto=tcp,nolock,port=$NFS_PORT,mountport=$NFS_PORT,mountproto=tcp,${1:-hard}" \
        "$HOST:/default" /mnt
}
forget() { sync; echo 3 > /proc/sys/vm/drop_caches; }

step mount
mount_it
cd /mnt
rm -rf t && mkdir t && cd t

step "small and large files, checksums after dropped caches"
for n in 0 1 511 512 513 2047 2048 2049 4095 4096 4097 65535 65536 65537 1048575 1048576 1048577 5000000; do
    head -c "$n" /dev/urandom > "f$n"
done
head -c 100000000 /dev/urandom > large
sha256sum f* large > /tmp/sums
forget
sha256sum --quiet -c /tmp/sums
rm large

step "overwriting, appending, holes, truncating"
printf 'hello world' > a && printf 'HE' | dd of=a conv=notrunc status=none && [ "$(cat a)" = "HEllo world" ]
printf '!' >> a && forget && [ "$(cat a)" = "HEllo world!" ]
dd if=/dev/zero of=sparse bs=1 count=1 seek=1000000 status=none
printf 'x' | dd of=sparse bs=1 seek=500000 conv=notrunc status=none
forget
[ "$(stat -c %s sparse)" = 1000001 ]
[ "$(tr -d '\0' < sparse)" = x ]
truncate -s 10 a && forget && [ "$(cat a)" = "HEllo worl" ]
truncate -s 100 a && [ "$(stat -c %s a)" = 100 ] && [ "$(tr -d '\0' < a)" = "HEllo worl" ]

step "what has just been written is no hole for tar"
mkdir packed && head -c 300000 /dev/urandom > fresh && printf 'few' > few
tar -cSf - fresh few sparse | tar -xf - -C packed
for f in fresh few sparse; do cmp $f packed/$f; done
rm -r packed

step "10,000 entries"
mkdir many
for i in $(seq 10000); do : > "many/file-$i"; done
forget
[ "$(ls many | wc -l)" = 10000 ]
[ "$(ls -U many | sort -u | wc -l)" = 10000 ]
find many -name 'file-*7' -delete
[ "$(ls many | wc -l)" = 9000 ]
rm -r many

step "renames, hard links, symbolic links, special files"
mkdir d1 d2
echo one > d1/x && mv d1/x d2/y && [ "$(cat d2/y)" = one ]
echo two > d1/x && mv -f d1/x d2/y && [ "$(cat d2/y)" = two ]
mv d2 d1/d3 && [ "$(cat d1/d3/y)" = two ]
if mv d1 d1/d3/ 2> /dev/null; then echo "moved a directory into itself"; exit 1; fi
ln d1/d3/y link && [ "$(stat -c %h link)" = 2 ] && rm d1/d3/y && [ "$(stat -c %h link)" = 1 ] && [ "$(cat link)" = two ]
ln -s link soft && [ "$(readlink soft)" = link ] && [ "$(cat soft)" = two ]
ln -s /a/very/$(printf 'long%.0s' $(seq 200))/path far && [ "$(readlink far | wc -c)" -gt 800 ]
mkfifo pipe && [ -p pipe ]
mknod null c 1 3 && [ "$(stat -c %t:%T null)" = 1:3 ]
mknod block b 7 200 && [ "$(stat -c %t:%T block)" = 7:c8 ]
python3 - <<'P'
# A socket's name is the server's, what goes through it is this machine's.
import os, socket, stat
with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
    server.bind("socket")
    server.listen()
    assert stat.S_ISSOCK(os.lstat("socket").st_mode)
    client.connect("socket")
    peer, _ = server.accept()
    client.sendall(b"by name")
    assert peer.recv(100) == b"by name"
    peer.close()
try:
    open("socket")
    raise SystemExit("a socket was opened as a file")
except OSError:
    pass
P
forget && [ -S socket ] && mv socket moved && [ -S moved ] && ln moved again && [ "$(stat -c %h:%F again)" = 2:socket ]
rm moved again
if rmdir d1 2> /dev/null; then echo "removed a directory with entries"; exit 1; fi
rmdir d1/d3 d1

step "modes, owners, times"
touch m && chmod 4751 m && [ "$(stat -c %a m)" = 4751 ]
chown 1234:2345 m && [ "$(stat -c %u:%g m)" = 1234:2345 ]
touch -d '2001-02-03 04:05:06.123456789 UTC' m && forget && [ "$(stat -c %.9Y m)" = 981173106.123456789 ]

step "names"
long=$(printf 'n%.0s' $(seq 255))
echo long > "$long" && [ "$(cat "$long")" = long ]
if : 2> /dev/null > "${long}n"; then echo "made a name of 256 bytes"; exit 1; fi
printf 'utf' > 'ä b	c"d' && [ "$(cat 'ä b	c"d')" = utf ]

step "O_EXCL, O_APPEND, unlinked but open, mmap, locks of one machine"
python3 - <<'P'
import mmap, os
f = os.open("excl", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
try:
    os.open("excl", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    raise SystemExit("O_EXCL made a file that was there")
except FileExistsError:
    pass
os.write(f, b"x" * 8192)
os.unlink("excl")
assert os.pread(f, 8192, 0) == b"x" * 8192
os.close(f)
a = os.open("app", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
b = os.open("app", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
for i in range(100):
    os.write(a if i % 2 else b, b"%04d\n" % i)
os.close(a); os.close(b)
assert open("app").read().split() == ["%04d" % i for i in range(100)]
with open("map", "wb+") as m:
    m.truncate(100000)
    v = mmap.mmap(m.fileno(), 100000)
    v[50000:50005] = b"hello"
    v.flush(); v.close()
assert open("map", "rb").read()[50000:50005] == b"hello"
P

step "clean up"
cd /mnt && rm -rf t && [ ! -e t ]
cd /
df /mnt | tail -1
umount /mnt
echo "files: passed"
