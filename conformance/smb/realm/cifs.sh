# In the virtual machine: the kernel's CIFS client logs on by ticket (cifs.upcall), signed and sealed, and each user is who his ticket says.
set -eu
fail() { dmesg | grep -i cifs | tail -n 5; echo "FAILED: $*"; exit 1; }
as() {
    local number=$1
    shift
    setpriv --reuid "$number" --regid "$number" --clear-groups -- env KRB5CCNAME="FILE:/tmp/krb5cc_$number" "$@"
}
mkdir -p /mnt/s
# cifs.upcall asks for them.
for user in alice:1001 mallory:1002 carol:1003 nobodys:1004; do echo "${user%:*}:x:${user#*:}:${user#*:}::/:/bin/sh" >> /etc/passwd; done
# Nobody has a ticket yet.
! mount -t cifs //host/default /mnt/s -o sec=krb5,vers=3.1.1,cruid=1001 2> /dev/null || fail "somebody without a ticket was let in"
echo secret | as 1001 kinit alice > /dev/null || fail "kinit alice"
echo secret | as 1002 kinit mallory > /dev/null || fail "kinit mallory"
! mount -t cifs //host/default /mnt/s -o sec=krb5,vers=3.1.1,cruid=1002 2> /dev/null || fail "somebody whom nobody there knows was let in"
head -c 5000000 /dev/urandom > /tmp/data
for version in 2.1 3.0 3.1.1; do
    for protection in krb5 krb5i seal; do
        case $version-$protection in
        2.1-seal) continue ;;
        *-seal) options=sec=krb5,seal ;;
        *) options=sec=$protection ;;
        esac
        mount -t cifs //host/default /mnt/s -o "$options,vers=$version,cruid=1001,uid=1001" || fail "mount with $options,vers=$version"
        grep ' /mnt/s cifs ' /proc/mounts | grep -q "sec=krb5" || fail "it is $(grep ' /mnt/s ' /proc/mounts)"
        mkdir /mnt/s/d
        cp /tmp/data /mnt/s/d/data
        echo 3 > /proc/sys/vm/drop_caches
        cmp /tmp/data /mnt/s/d/data || fail "other bytes came back with $options,vers=$version"
        for i in $(seq 50); do echo "$i" > "/mnt/s/d/f$i"; done
        [ "$(ls /mnt/s/d | wc -l)" = 51 ] || fail "names are missing with $options,vers=$version"
        rm -r /mnt/s/d
        umount /mnt/s
        echo "-- $version $protection"
    done
done
# One mount, two users: each session is its user's.
echo secret | as 1003 kinit carol > /dev/null || fail "kinit carol"
mount -t cifs //host/default /mnt/s -o sec=krb5,multiuser,vers=3.1.1,cruid=1001 || fail "mount for several"
as 1001 sh -c 'echo a > /mnt/s/alices' || fail "alice writes"
[ "$(as 1003 cat /mnt/s/alices)" = a ] || fail "carol reads"
! as 1003 sh -c 'echo c > /mnt/s/alices' 2> /dev/null || fail "carol writes what is alice's alone"
! setpriv --reuid 1004 --regid 1004 --clear-groups -- env KRB5CCNAME=FILE:/tmp/krb5cc_1004 cat /mnt/s/alices > /dev/null 2>&1 \
    || fail "somebody without a ticket reads through another one's mount"
as 1001 rm /mnt/s/alices || fail "alice removes"
umount /mnt/s
echo "realm: passed"
