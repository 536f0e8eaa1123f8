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
try "3.1.1" vers=3.1.1
try "3.1.1 signed" vers=3.1.1,sign
try "3.1.1 encrypted" vers=3.1.1,seal
try "3.0" vers=3.0
try "2.1" vers=2.1
echo "cifs: passed"
