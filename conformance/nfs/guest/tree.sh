# A source tree is unpacked on the mount, compiled by several processes at a time, run, packed again and compared; and processes
# that rename the same names over each other lose none.
set -eu
fail() { echo "FAILED: $*"; exit 1; }
mount -t nfs -o "vers=3,proto=tcp,nolock,port=$NFS_PORT,mountport=$NFS_PORT,mountproto=tcp" "$HOST:/default" /mnt

echo "-- unpacking and compiling a source tree"
python3 - <<'P'
import io, tarfile
files = {"Makefile": "", "include/all.h": "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"}
names = []
for part in range(12):
    for unit in range(20):
        name = f"part{part}/unit{unit}"
        names.append((part, unit))
        files[f"include/part{part}/unit{unit}.h"] = f"#pragma once\nlong part{part}_unit{unit}(long x);\n"
        other = (part + 1) % 12 if part < 11 else None
        call = f"part{other}_unit{unit}(x / 2)" if other is not None else "x"
        include = f'#include "part{other}/unit{unit}.h"\n' if other is not None else ""
        files[f"{name}.c"] = (f'#include "all.h"\n#include "part{part}/unit{unit}.h"\n{include}'
            f"long part{part}_unit{unit}(long x) {{ return x <= 1 ? {part * 20 + unit} : {part + unit} + {call}; }}\n")
files["main.c"] = '#include "all.h"\n' + "".join(f'#include "part0/unit{u}.h"\n' for u in range(20)) + \
    "int main(void) { long sum = 0; " + "".join(f"sum += part0_unit{u}({u + 1000});" for u in range(20)) + ' printf("%ld\\n", sum); return 0; }\n'
objects = " ".join(f"part{p}/unit{u}.o" for p, u in names)
files["Makefile"] = (f"OBJECTS = main.o {objects}\nprogram: $(OBJECTS)\n\t$(CC) -o $@ $(OBJECTS)\n"
    "%.o: %.c\n\t$(CC) -Iinclude -c -o $@ $<\nclean:\n\trm -f program $(OBJECTS)\n")
def value(part, unit, x):
    if x <= 1: return part * 20 + unit
    return part + unit + (value(part + 1, unit, x // 2) if part < 11 else x)
with tarfile.open("/tmp/tree.tar", "w") as tar:
    for name, text in sorted(files.items()):
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = len(text), 1700000000, 0o644
        tar.addfile(info, io.BytesIO(text.encode()))
open("/tmp/sum", "w").write(f"{sum(value(0, u, u + 1000) for u in range(20))}\n")
P
mkdir /mnt/tree
tar -C /mnt/tree -xf /tmp/tree.tar
make -C /mnt/tree -j4 CC=tcc > /tmp/make.log 2>&1 || { tail /tmp/make.log; fail "make"; }
/mnt/tree/program | cmp - /tmp/sum || fail "the program computes something else"
# Nothing is newer than what was made of it.
make -C /mnt/tree CC=tcc | grep -q "up to date" || fail "make finds something to do"
touch /mnt/tree/part3/unit7.c
make -C /mnt/tree CC=tcc | grep -c "unit7.o.*unit7.c" > /dev/null || fail "make finds nothing to do"
make -C /mnt/tree clean > /dev/null
touch -d @1700000000 /mnt/tree/part3/unit7.c
echo 3 > /proc/sys/vm/drop_caches
(cd /mnt/tree && tar -cf - --sort=name --owner=0 --group=0 --format=ustar $(tar -tf /tmp/tree.tar)) | tar -xO | sha256sum > /tmp/again
tar -xOf /tmp/tree.tar | sha256sum | cmp - /tmp/again || fail "the tree has changed"
rm -r /mnt/tree

echo "-- rename storms"
mkdir /mnt/storm /mnt/storm/a /mnt/storm/b
for n in $(seq 40); do echo "$n" > "/mnt/storm/a/$n"; done
cat > /tmp/storm.py <<'P'
import os, random, sys
r = random.Random(int(sys.argv[1]))
moved = 0
for _ in range(600):
    n, (of, to) = r.randrange(1, 41), r.choice([("a", "b"), ("b", "a"), ("a", "a"), ("b", "b")])
    try:
        os.rename(f"/mnt/storm/{of}/{n}", f"/mnt/storm/{to}/{n}")
        moved += 1
    except FileNotFoundError: pass
    # Over a name that somebody else may have just taken.
    mine = f"/mnt/storm/mine-{sys.argv[1]}"
    with open(mine, "w") as f: f.write("x" * 100)
    os.rename(mine, "/mnt/storm/one")
    assert len(open("/mnt/storm/one").read()) == 100
assert moved > 50, moved
P
# Before the writers are done a reader always finds the name, with one of the contents.
for seed in 1 2 3 4; do python3 /tmp/storm.py $seed & pids="${pids:-} $!"; done
for pid in $pids; do wait "$pid" || fail "a process in the storm"; done
[ "$(ls /mnt/storm/a /mnt/storm/b | grep -c '^[0-9]')" = 40 ] || fail "names were lost or doubled"
[ "$(cat /mnt/storm/a/* /mnt/storm/b/* 2> /dev/null | sort -n | tr '\n' ' ')" = "$(seq 40 | tr '\n' ' ')" ] || fail "contents were lost"
rm -r /mnt/storm
umount /mnt
echo "tree: passed"
