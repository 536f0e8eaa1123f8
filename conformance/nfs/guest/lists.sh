# Access lists by getfacl and setfacl (NFSACL).
set -eu
fail() { echo "FAILED: $*"; exit 1; }
mount -t nfs -o "vers=3,proto=tcp,nolock,acl,port=$NFS_PORT,mountport=$NFS_PORT,mountproto=tcp" "$HOST:/default" /mnt
cd /mnt
echo text > file; chmod 640 file; mkdir folder
as() { setpriv --reuid "$1" --regid "$1" --clear-groups -- "${@:2}"; }
! as 1001 cat file 2> /dev/null || fail "a mode does not bind"
setfacl -m u:1001:rw,g:2000:r file || fail "setfacl"
getfacl -nc file > /tmp/list
for line in "user:1001:rw-" "group:2000:r--" "mask::rw-" "other::---"; do
    grep -q "^$line" /tmp/list || { cat /tmp/list; fail "$line is missing"; }
done
[ "$(as 1001 cat file)" = text ] || fail "who is named may not read"
as 1001 sh -c 'echo more >> file' || fail "who is named may not write"
! as 1002 cat file 2> /dev/null || fail "who is not named may read"
setfacl -x u:1001 file
! as 1001 cat file 2> /dev/null || fail "who is named no more may read"
setfacl -b file
[ "$(getfacl -nc file | grep -c :)" = 3 ] || fail "setfacl -b left $(getfacl -nc file)"
setfacl -d -m u:1001:rwx folder
getfacl -nc folder | grep -q "^default:user:1001:rwx" || fail "no list is passed on"
touch folder/new
getfacl -nc folder/new | grep -q "^user:1001:rw" || { getfacl -nc folder/new; fail "a new file has not the list"; }
setfacl -k folder
! getfacl -nc folder | grep -q "^default" || fail "setfacl -k left the list"
cp -p file copy || fail "cp -p"
# What is made with O_EXCL gets its times in a second call, in which its list changes, too.
mkdir listed
setfacl -d -m u:1001:rwx listed
python3 -c 'import os; os.close(os.open("listed/x", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))'
echo 3 > /proc/sys/vm/drop_caches
age=$(($(date +%s) - $(stat -c %Y listed/x)))
[ "$age" -gt -600 ] && [ "$age" -lt 600 ] || fail "a new file is $age s old"
[ "$(stat -c %a listed/x)" = 640 ] || fail "its mode is $(stat -c %a listed/x)"
echo "lists: passed"
