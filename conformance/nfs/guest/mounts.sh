# In the machine: the kernel's client below mounts of each kind, and at a quota, which conformance/nfs/kernel has set up. Ends with
# "mounts: passed".
set -eu
step() { echo "-- $*"; }
forget() { sync; echo 3 > /proc/sys/vm/drop_caches; }
mount -t nfs -o "vers=3,proto=tcp,nolock,port=$NFS_PORT,mountport=$NFS_PORT,mountproto=tcp,hard" "$HOST:/default" /mnt
cd /mnt/mounted
for kind in host guest bind; do
    step "files in the $kind"
    mkdir "$kind/d"
    for n in 0 1 4096 1048577; do head -c "$n" /dev/urandom > "$kind/d/f$n"; done
    sha256sum "$kind"/d/f* > /tmp/sums
    forget
    sha256sum --quiet -c /tmp/sums
    mv "$kind/d/f1" "$kind/g" && ln "$kind/g" "$kind/h" && [ "$(stat -c %h "$kind/g")" = 2 ]
    [ "$(cd "$kind" && cd .. && pwd -P)" = /mnt/mounted ]
    [ "$(ls -di "$kind/.." | cut -d' ' -f1)" = "$(ls -di . | cut -d' ' -f1)" ]
    ls -la "$kind" > /tmp/listed && grep -q ' g$' /tmp/listed
done
step "each file system is one of its own"
[ "$(stat -c %d host)" != "$(stat -c %d .)" ] && [ "$(stat -c %d guest)" != "$(stat -c %d .)" ]
[ "$(stat -c %d host)" != "$(stat -c %d guest)" ] && [ "$(stat -c %d bind)" = "$(stat -c %d .)" ]
if ln host/g guest/linked 2> /dev/null; then echo "a hard link leads from one to the other"; exit 1; fi
mv host/g guest/moved && forget && [ "$(stat -c %s guest/moved)" = 1 ] && [ ! -e host/g ]
df host guest . > /dev/null
step "a quota: told by write, by fsync or by close, and nothing is lost"
cd /mnt/limited
head -c 600000 /dev/urandom > a && sync a
if { head -c 600000 /dev/urandom > b && sync b; } 2> /tmp/why; then echo "more than the limit was written"; exit 1; fi
grep -qi 'quota' /tmp/why || { cat /tmp/why; exit 1; }
forget
[ "$(stat -c %s a)" = 600000 ]
[ "$(cat * | wc -c)" -le 1000000 ]
rm b && head -c 300000 /dev/urandom > c && sync c && rm a c
step "restart of the server"
cd /mnt/mounted
sha256sum host/d/f4096 guest/d/f4096 bind/d/f4096 > /tmp/sums
exec 3< host/d/f4096
python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2]))).recv(1)' "$HOST" "$CONTROL_PORT"
forget
sha256sum --quiet -c /tmp/sums
[ "$(cat <&3 | wc -c)" = 4096 ]
exec 3<&-
rm -r host/d guest/d bind/d
cd /
umount /mnt
echo "mounts: passed"
