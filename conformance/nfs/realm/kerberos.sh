# Kerberos in its three strengths: tickets say who writes, nobody without one may, and what comes back is what was written.
set -eu
fail() { echo "FAILED: $*"; exit 1; }
! mount -t nfs -o vers=3,proto=tcp,sec=sys,port=2049,mountport=2049,mountproto=tcp host:/default /mnt 2> /dev/null \
    || ! ls /mnt > /dev/null 2>&1 || fail "AUTH_SYS is let in"
umount /mnt 2> /dev/null || true
as_alice() { setpriv --reuid 1001 --regid 1001 --clear-groups -- "$@"; }
echo secret | as_alice env KRB5CCNAME=FILE:/tmp/krb5cc_1001 kinit alice || fail "kinit"
head -c 5000000 /dev/urandom > /tmp/data
chmod 644 /tmp/data
for flavor in krb5 krb5i krb5p; do
    mount -t nfs -o "vers=3,proto=tcp,sec=$flavor,port=2049,mountport=2049,mountproto=tcp" host:/default /mnt \
        || fail "mount with $flavor"
    grep -q "sec=$flavor" /proc/mounts || fail "the mount is no $flavor"
    as_alice cp /tmp/data "/mnt/$flavor" || fail "alice writes with $flavor"
    [ "$(stat -c %u:%g "/mnt/$flavor")" = 1001:1001 ] || fail "the file is $(stat -c %u:%g "/mnt/$flavor")'s"
    echo 3 > /proc/sys/vm/drop_caches
    as_alice cmp /tmp/data "/mnt/$flavor" || fail "other bytes came back with $flavor"
    # bob has no ticket.
    ! setpriv --reuid 1002 --regid 1002 --clear-groups -- touch "/mnt/bob" 2> /dev/null || fail "bob has no ticket"
    as_alice mkdir "/mnt/d$flavor"
    (cd "/mnt/d$flavor"; as_alice sh -c 'for n in $(seq 200); do echo $n > $n; done')
    [ "$(as_alice ls "/mnt/d$flavor" | wc -l)" = 200 ] || fail "names are missing with $flavor"
    as_alice python3 -c 'import fcntl, sys; fcntl.lockf(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)' \
        "/mnt/$flavor" || fail "locks with $flavor"
    umount /mnt
    echo "-- $flavor"
done
# Who somebody is by the table, by the rule for instances, and by the rule for everybody else of the realm.
mount -t nfs -o "vers=3,proto=tcp,sec=krb5,port=2049,mountport=2049,mountproto=tcp" host:/default /mnt || fail "mount"
for who in "2001 mallory 1001" "2002 carol/admin 1003" "2003 stranger 1004"; do
    read -r here principal there <<< "$who"
    as_him() { setpriv --reuid "$here" --regid "$here" --clear-groups -- "$@"; }
    echo secret | as_him env KRB5CCNAME="FILE:/tmp/krb5cc_$here" kinit "$principal" || fail "kinit $principal"
    as_him touch "/mnt/of-$here" || fail "$principal writes"
    [ "$(stat -c %u:%g "/mnt/of-$here")" = "$there:$there" ] || fail "the file of $principal is $(stat -c %u:%g "/mnt/of-$here")'s"
done
umount /mnt
echo "-- table and rules"
# A ticket ends under an open file: nothing goes on without another, and all of it with one.
mount -t nfs -o "vers=3,proto=tcp,sec=krb5i,port=2049,mountport=2049,mountproto=tcp" host:/default /mnt || fail "mount"
as_him() { setpriv --reuid 2004 --regid 2004 --clear-groups -- env KRB5CCNAME=FILE:/tmp/krb5cc_2004 "$@"; }
echo secret | as_him kinit -l 60s alice || fail "kinit for seconds"
as_him sh -c 'exec 3> /mnt/short; echo before >&3; sync /mnt/short; touch /tmp/written_2004
    until [ -e /tmp/renewed ]; do sleep 0.2; done; echo after >&3' & writer=$!
for _ in $(seq 300); do [ ! -e /tmp/written_2004 ] || break; sleep 0.1; done
[ "$(cat /mnt/short)" = before ] || fail "nothing is written with a ticket of seconds"
sleep 61
! as_him timeout -k 5 60 mkdir /mnt/late 2> /dev/null || fail "a ticket that has ended serves"
echo secret | as_him kinit alice || fail "kinit once more"
touch /tmp/renewed
wait "$writer" || fail "an open file is not written with a new ticket"
as_him mkdir /mnt/late || fail "a new ticket does not serve"
[ "$(as_alice cat /mnt/short)" = "$(printf 'before\nafter')" ] || fail "what was written under two tickets is $(as_alice cat /mnt/short)"
umount /mnt
echo "-- a ticket that ends"
# Without a version the client begins with NFSv4, and is not kept waiting for an answer that it can believe.
mount_begin=$(date +%s)
mount -t nfs -o "sec=krb5,proto=tcp,port=2049,mountport=2049,mountproto=tcp" host:/default /mnt || fail "mount without a version"
grep " /mnt nfs " /proc/mounts | grep -q "vers=3,.*sec=krb5," || fail "it is $(grep ' /mnt ' /proc/mounts)"
[ $(($(date +%s) - mount_begin)) -lt 30 ] || fail "a mount without a version takes $(($(date +%s) - mount_begin)) s"
as_alice cmp /tmp/data /mnt/krb5 || fail "other bytes came back"
umount /mnt
echo "-- no version"
echo "kerberos: passed"
