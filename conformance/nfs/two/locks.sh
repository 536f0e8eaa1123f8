# Two hosts of one machine: this one, and a second one behind a pair of virtual cables, in network, mount and host name
# namespaces of its own. Locks hold between them, who waits is called back, a host that restarts loses its locks, and a
# server that restarts gets them back.
set -eu
fail() { echo "FAILED: $*"; exit 1; }
mount -t nfs -o vers=3,proto=tcp,hard,timeo=50,port=2049,mountport=2049,mountproto=tcp "$HOST:/default" /mnt
ip netns add two
ip link add one0 type veth peer name two0
ip link set two0 netns two
ip link set one0 up
ip route add 10.77.0.3 dev one0
for name in one0 eth0; do echo 1 > /proc/sys/net/ipv4/conf/$name/proxy_arp; done
echo 1 > /proc/sys/net/ipv4/ip_forward
cat > /run/two.sh <<'TWO'
hostname host-two
ip link set lo up
ip link set two0 up
ip addr add 10.77.0.3/32 dev two0
ip route add default dev two0
mount -t tmpfs none /run
mkdir -p /run/rpcbind /run/state/sm /run/state/sm.bak /run/mnt
chown -R statd /run/state
rpcbind
rpc.statd -P /run/state --no-notify
mount -t nfs -o vers=3,proto=tcp,hard,timeo=50,port=2049,mountport=2049,mountproto=tcp 10.77.0.1:/default /run/mnt
exec sleep 100000
TWO
ip netns exec two unshare --mount --uts bash /run/two.sh > /out/two.log 2>&1 &
two=$!
in_two() { nsenter --target "$two" --net --mount --uts -- "$@"; }
for _ in $(seq 100); do in_two mountpoint -q /run/mnt && break; sleep 0.2; done
in_two mountpoint -q /run/mnt || { cat /out/two.log; fail "the second host mounts nothing"; }

cat > /run/lock.py <<'PY'
"""lock.py FILE COMMAND...: does what the words say, one after the other; prints what came of it."""
import fcntl, os, struct, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666)
KINDS = {"read": fcntl.F_RDLCK, "write": fcntl.F_WRLCK, "un": fcntl.F_UNLCK}
def pack(kind, start, length): return struct.pack("hhqqi4x", KINDS[kind], 0, start, length, 0)
for word in sys.argv[2:]:
    verb, _, rest = word.partition(":")
    numbers = [int(n) for n in rest.split(",") if n.isdigit()]
    kind = rest.split(",")[0]
    if verb == "sleep": time.sleep(float(rest))
    elif verb == "touch": open(rest, "w").close()
    elif verb == "until":
        while not os.path.exists(rest): time.sleep(0.05)
    elif verb == "try":
        try: fcntl.fcntl(file, fcntl.F_SETLK, pack(kind, *numbers)); print("granted", flush=True)
        except OSError as error: print("refused", error.errno, flush=True)
    elif verb == "wait":
        fcntl.fcntl(file, fcntl.F_SETLKW, pack(kind, *numbers)); print("granted at %.3f" % time.time(), flush=True)
    elif verb == "un": fcntl.fcntl(file, fcntl.F_SETLK, pack("un", *numbers)); print("unlocked at %.3f" % time.time(), flush=True)
    elif verb == "get":
        answer = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, pack(kind, *numbers)))
        print("free" if answer[0] == fcntl.F_UNLCK else "held %s %d %d" % (["read", "write"][answer[0]], answer[2], answer[3]), flush=True)
PY
cp /run/lock.py /out/lock.py
one() { python3 /out/lock.py /mnt/file "$@"; }
second() { in_two python3 /out/lock.py /run/mnt/file "$@"; }

echo "-- locks exclude each other"
one try:write,0,10 touch:/tmp/has until:/tmp/go un:0,10 > /tmp/one.out &
holder=$!
while [ ! -e /tmp/has ]; do sleep 0.05; done
[ "$(second try:write,5,10)" = "refused 11" ] || fail "a lock is given twice"
[ "$(second try:write,10,10)" = granted ] || fail "a free range is refused"
[ "$(second get:write,0,0)" = "held write 0 10" ] || fail "the holder is not told: $(second get:write,0,0)"
echo "-- who waits is called back"
second wait:write,0,10 > /tmp/two.out &
waiter=$!
sleep 2
[ ! -s /tmp/two.out ] || fail "a lock that is held was granted"
touch /tmp/go
wait $holder; wait $waiter
cat /tmp/one.out /tmp/two.out
python3 - <<'PY' || fail "the grant came late"
import re
unlocked = float(re.search(r"unlocked at ([0-9.]+)", open("/tmp/one.out").read())[1])
granted = float(re.search(r"granted at ([0-9.]+)", open("/tmp/two.out").read())[1])
print("granted after %.3f s" % (granted - unlocked))
raise SystemExit(granted - unlocked >= 1)
PY

echo "-- shared locks, and a wait that is given up"
one try:read,0,0 touch:/tmp/shared until:/tmp/done > /dev/null &
holder=$!
while [ ! -e /tmp/shared ]; do sleep 0.05; done
[ "$(second try:read,0,0)" = granted ] || fail "shared locks exclude each other"
in_two timeout -s INT 2 python3 /out/lock.py /run/mnt/file wait:write,0,0 > /dev/null 2>&1 || true
touch /tmp/done; wait $holder
sleep 1
[ "$(one try:write,0,0)" = granted ] || fail "a wait that was given up holds a lock"

echo "-- a host that restarts loses its locks"
in_two python3 /out/lock.py /run/mnt/file try:write,0,0 touch:/tmp/lost until:/tmp/found > /dev/null &
loser=$!
while [ ! -e /tmp/lost ]; do sleep 0.05; done
[ "$(one try:write,0,0)" = "refused 11" ] || fail "the second host holds nothing"
in_two sm-notify -f -P /run/state || fail "sm-notify"
for _ in $(seq 50); do [ "$(one try:write,0,0)" = "refused 11" ] || break; sleep 0.2; done
[ "$(one try:write,0,0)" = granted ] || fail "the locks of a host that restarted are still there"
# It does not know that it restarted, and would reclaim them later.
touch /tmp/found; wait $loser

echo "-- a server that restarts gives them back"
one try:write,0,100 touch:/tmp/kept until:/tmp/end un:0,100 > /dev/null &
holder=$!
while [ ! -e /tmp/kept ]; do sleep 0.05; done
python3 -c 'import socket; socket.create_connection(("10.77.0.1", 9999)).recv(1)'
# The server takes no new lock until the time to reclaim is over: the client asks until then.
[ "$(second try:write,50,1)" = "refused 11" ] || fail "a lock was lost in the server's restart"
[ "$(second try:write,100,1)" = granted ] || fail "a free range is refused after the restart"
touch /tmp/end; wait $holder
[ "$(second try:write,0,100)" = granted ] || fail "a reclaimed lock can not be unlocked"
kill $two
echo "locks: passed"
