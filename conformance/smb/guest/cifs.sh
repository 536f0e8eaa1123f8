#!/bin/bash
# In the virtual machine: mounts the share in several dialects, and works as users do.
set -euo pipefail
server=$HOST
mkdir -p /mnt/s
try() {
    local name=$1 options=$2
    mount -t cifs "//$server/default" /mnt/s -o "port=$SMB_PORT,username=torture,password=secret,$options"
    mkdir /mnt/s/d
    head -c 3000001 /dev/urandom > /tmp/data
    cp /tmp/data /mnt/s/d/data
    cmp /tmp/data /mnt/s/d/data
    for i in $(seq 50); do echo "$i" > "/mnt/s/d/f$i"; done
    [ "$(ls /mnt/s/d | wc -l)" = 51 ]
    mv /mnt/s/d/f1 /mnt/s/d/moved
    [ "$(cat /mnt/s/d/moved)" = 1 ]
    truncate -s 10 /mnt/s/d/data
    [ "$(stat -c %s /mnt/s/d/data)" = 10 ]
    ln /mnt/s/d/moved /mnt/s/d/linked
    [ "$(cat /mnt/s/d/linked)" = 1 ]
    flock /mnt/s/d/moved true
    python3 -c '
import os
path = "/mnt/s/d/moved"
os.setxattr(path, "user.color", b"blue")
os.setxattr(path, "user.long", b"x" * 3000)
assert os.getxattr(path, "user.color") == b"blue" and os.getxattr(path, "user.long") == b"x" * 3000
assert sorted(os.listxattr(path)) == ["user.color", "user.long"]
os.removexattr(path, "user.long")
assert os.listxattr(path) == ["user.color"]'
    df /mnt/s > /dev/null
    sync -f /mnt/s/d
    umount /mnt/s
    mount -t cifs "//$server/default" /mnt/s -o "port=$SMB_PORT,username=torture,password=secret,$options"
    [ "$(cat /mnt/s/d/f50)" = 50 ]
    rm -r /mnt/s/d
    [ -z "$(ls /mnt/s)" ]
    umount /mnt/s
    echo "cifs: $name works"
}
for version in 3.1.1 3.0.2 3.0 2.1; do
    try "$version" "vers=$version"
    try "$version signed" "vers=$version,sign"
    [ "$version" = 2.1 ] || try "$version sealed" "vers=$version,seal"
done
# What must be sealed is not mounted otherwise, and is when it is.
! mount -t cifs "//$server/sealed" /mnt/s -o "port=$SMB_PORT,username=torture,password=secret,vers=2.1" 2> /dev/null
mount -t cifs "//$server/sealed" /mnt/s -o "port=$SMB_PORT,username=torture,password=secret,vers=3.1.1,seal"
echo sealed > /mnt/s/sealed
[ "$(cat /mnt/s/sealed)" = sealed ]
rm /mnt/s/sealed
umount /mnt/s
! mount -t cifs "//$server/default" /mnt/s -o "port=$SMB_PORT,username=torture,password=wrong,vers=3.1.1" 2> /dev/null
# Two mounts are two clients: what one does the other sees, and a lock of one binds the other.
mkdir -p /mnt/a /mnt/b
options="port=$SMB_PORT,username=torture,password=secret,vers=3.1.1,nosharesock,actimeo=0"
mount -t cifs "//$server/default" /mnt/a -o "$options"
mount -t cifs "//$server/default" /mnt/b -o "$options"
for i in $(seq 20); do
    echo "one $i" > /mnt/a/shared
    [ "$(cat /mnt/b/shared)" = "one $i" ]
    echo "two $i" > /mnt/b/shared
    [ "$(cat /mnt/a/shared)" = "two $i" ]
done
exec 9> /mnt/a/locked
flock -n 9
! flock -n /mnt/b/locked true
exec 9>&-
flock -w 10 /mnt/b/locked true
rm /mnt/a/shared /mnt/b/locked
umount /mnt/a /mnt/b
echo "cifs: passed"
