# Limits and use as Debian's quota tool shows them, which asks rquotad: of users and groups, soft limits, the time of grace,
# and whose business they are. The server has the quotas from conformance/nfs/locks.
set -eu
fail() { echo "FAILED: $*"; exit 1; }
mount -t nfs -o vers=3,nolock,proto=tcp,port=2049,mountport=2049,mountproto=tcp "$HOST:/default" /mnt
mkdir -m 0777 /mnt/quota
as() { setpriv --reuid "$1" --regid "$2" --clear-groups -- "${@:3}"; }
# Of a user or group: blocks of 1 KiB, soft and hard limit, grace in seconds since 1970, the same of files; * where one is passed.
shown() { quota -v -w -p "$@" 2> /tmp/quota.err | tail -n 1 | awk '{ $1 = ""; print substr($0, 2) }'; }
show() {
    echo "$*: $(shown "$@")" >&2
    shown "$@"
}
[ "$(show -u 1001)" = "0 1024 2048 0 0 10 20 0" ] || fail "limits of a user"
[ "$(show -g 1002)" = "0 0 512 0 0 0 0 0" ] || fail "limits of a group"
as 1001 1001 dd if=/dev/zero of=/mnt/quota/a bs=1k count=100 conv=fsync 2> /dev/null
[ "$(show -u 1001)" = "100 1024 2048 0 1 10 20 0" ] || fail "use of a user"
echo "-- a soft limit that is passed"
as 1001 1001 dd if=/dev/zero of=/mnt/quota/a bs=1k count=1100 conv=fsync 2> /dev/null
read -r blocks soft hard grace files rest <<< "$(show -u 1001)"
[ "$blocks $soft $hard $files" = "1100* 1024 2048 1" ] || fail "a soft limit that is passed"
left=$((grace - $(date +%s)))
[ "$left" -gt $((3 * 86400 - 120)) ] && [ "$left" -le $((3 * 86400 + 120)) ] || fail "the time of grace is $left s"
echo "-- a hard limit"
! as 1001 1001 dd if=/dev/zero of=/mnt/quota/a bs=1k count=3000 conv=fsync 2> /tmp/dd.err || fail "more than the hard limit is written"
grep -qi "quota exceeded" /tmp/dd.err || fail "it says: $(cat /tmp/dd.err)"
rm /mnt/quota/a
[ "$(show -u 1001)" = "0 1024 2048 0 0 10 20 0" ] || fail "what was removed counts"
as 1003 1002 dd if=/dev/zero of=/mnt/quota/b bs=1k count=64 conv=fsync 2> /dev/null
[ "$(show -g 1002)" = "64 0 512 0 1 0 0 0" ] || fail "use of a group"
echo "-- whose business it is"
[ "$(as 1001 1001 quota -v -w -p -u 1001 | tail -n 1 | awk '{ print $3, $4 }')" = "1024 2048" ] || fail "a user is not shown his own"
! as 1003 1003 quota -v -w -p -u 1001 2> /dev/null | grep -q 2048 || fail "a user is shown another one's"
rm -r /mnt/quota
umount /mnt
echo "quota: passed"
