# A mount that names no version: the client begins with NFSv4, is told that there is none, and takes version 3.
set -eu
fail() { echo "FAILED: $*"; exit 1; }
mount -t nfs -o "nolock,proto=tcp,port=$NFS_PORT,mountport=$NFS_PORT,mountproto=tcp" "$HOST:/default" /mnt || fail "mount"
grep " /mnt nfs " /proc/mounts | grep -q "vers=3," || fail "it is no mount of version 3: $(grep /mnt /proc/mounts)"
echo hello > /mnt/plain
[ "$(cat /mnt/plain)" = hello ] || fail "other bytes came back"
rm /mnt/plain
umount /mnt
# A client that wants version 4 alone is refused, and not kept waiting.
! timeout 30 mount -t nfs -o "vers=4.2,proto=tcp,port=$NFS_PORT" "$HOST:/default" /mnt 2> /tmp/mount.err || fail "version 4 is mounted"
echo "plain: passed"
