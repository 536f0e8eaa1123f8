"""What the suites in Python share: a tiny runner, checks that say what they saw, and the same files by NFS and SMB."""
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

ENDPOINT = os.environ["ENDPOINT"]
SECURE_ENDPOINT = os.environ["SECURE_ENDPOINT"]
NFS_PORT = os.environ["NFS_PORT"]
SMB_PORT = os.environ["SMB_PORT"]
# The user's own uid: the first one that the server gives.
UID = 10000

_cases = []


def case(function):
    _cases.append(function)
    return function


def absent(what):
    """What a suite needs is not here: it fails, unless MISSING=ok lets it go on without."""
    if os.environ.get("MISSING") != "ok":
        raise SystemExit(f"{os.path.basename(sys.argv[0])}: {what} is not here (MISSING=ok goes on without it)")
    print(f"{os.path.basename(sys.argv[0])}: {what} is not here: not run")


def run():
    """Runs all cases, or those that are named."""
    wanted = sys.argv[1:]
    chosen = [c for c in _cases if not wanted or c.__name__ in wanted]
    failed = []
    begin = time.time()
    for function in chosen:
        try:
            function()
        except Exception:
            failed.append(function.__name__)
            print(f"FAILED {function.__name__}")
            traceback.print_exc()
    name = os.path.basename(sys.argv[0])
    print(f"{name}: {len(chosen) - len(failed)} of {len(chosen)} cases passed in {time.time() - begin:.1f} s")
    sys.exit(1 if failed else 0)


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            absent(program)
            sys.exit(0)


def nfs_url(path):
    return f"nfs://127.0.0.1/default/{path}?nfsport={NFS_PORT}&mountport={NFS_PORT}&uid={UID}&gid={UID}"


def nfs_cat(path):
    return subprocess.run(["nfs-cat", nfs_url(path)], check=True, capture_output=True, timeout=60).stdout


def smbclient(*commands):
    run = subprocess.run(
        ["smbclient", "//127.0.0.1/default", "-p", SMB_PORT, "-U", "alice%alice-secret", "-c", "; ".join(commands)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if run.returncode != 0:
        raise AssertionError(f"smbclient {commands}: {run.stdout}{run.stderr}")
    return run.stdout


def same_by_files(path, body):
    """What S3 has put there is the same for clients of files."""
    equal(nfs_cat(path), body)
    with tempfile.TemporaryDirectory() as folder:
        smbclient("lcd " + folder, 'get "{}" got'.format(path.replace("/", "\\")))
        with open(os.path.join(folder, "got"), "rb") as file:
            equal(file.read(), body)


def made_by_files(directory, body):
    """Puts a file there by NFS and another one by SMB; answers their names."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "body"), "wb") as file:
            file.write(body)
        subprocess.run(
            ["nfs-cp", os.path.join(folder, "body"), nfs_url(f"{directory}/by-nfs")], check=True, capture_output=True,
            timeout=60)
        smbclient("lcd " + folder, 'put body "{}\\by-smb"'.format(directory.replace("/", "\\")))
    return ["by-nfs", "by-smb"]


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"found {str(found)[:500]!r}, expected {str(expected)[:500]!r}")
