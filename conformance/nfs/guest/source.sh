# A real source tree (Debian's zlib, given to the machine in /host) is unpacked on the mount, configured, compiled by several processes
# at a time, and tests itself; what was unpacked is compared with the archive afterwards, behind dropped caches.
set -eu
fail() { echo "FAILED: $*"; exit 1; }
archive=$(ls /host/nfs-source/*.orig.tar.*) || fail "there is no source in /host"
mount -t nfs -o "vers=3,proto=tcp,nolock,port=$NFS_PORT,mountport=$NFS_PORT,mountproto=tcp" "$HOST:/default" /mnt
mkdir /mnt/source
cd /mnt/source
python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(".")' "$archive"
cd zlib-*
echo "-- $(find . -type f | wc -l) files"
AR="tcc -ar" RANLIB=true CC=tcc ./configure --static > /tmp/configure.log 2>&1 || { tail /tmp/configure.log; fail "configure"; }
make -j4 CC=tcc > /tmp/make.log 2>&1 || { tail /tmp/make.log; fail "make"; }
make CC=tcc teststatic > /tmp/test.log 2>&1 || { tail /tmp/test.log; fail "its tests"; }
grep -q "zlib test OK" /tmp/test.log || fail "its tests did not run"
echo 3 > /proc/sys/vm/drop_caches
./minigzip < zlib.h | ./minigzip -d | cmp - zlib.h || fail "what was compiled does not give back what it took"
make distclean > /dev/null
echo 3 > /proc/sys/vm/drop_caches
# Files that configure writes are put back by distclean, all others are as they came.
python3 - "$archive" <<'P'
import sys, tarfile
same = 0
with tarfile.open(sys.argv[1]) as tar:
    for member in tar:
        if not member.isfile(): continue
        with open("/mnt/source/" + member.name, "rb") as file: there = file.read()
        if there == tar.extractfile(member).read(): same += 1
        elif not member.name.endswith(("/Makefile", "/zconf.h")): raise SystemExit("source: FAILED: " + member.name)
print(f"-- {same} files as they came")
assert same > 100, same
P
cd /
rm -r /mnt/source
umount /mnt
echo "source: passed"
