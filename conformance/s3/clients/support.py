"""What the suites in Python share: a tiny runner, and checks that say what they saw."""
import os
import sys
import time
import traceback

ENDPOINT = os.environ["ENDPOINT"]
SECURE_ENDPOINT = os.environ["SECURE_ENDPOINT"]
NFS_PORT = os.environ["NFS_PORT"]

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
    failed = []
    begin = time.time()
    for function in _cases:
        if wanted and function.__name__ not in wanted:
            continue
        try:
            function()
        except Exception:
            failed.append(function.__name__)
            print(f"FAILED {function.__name__}")
            traceback.print_exc()
    name = os.path.basename(sys.argv[0])
    print(f"{name}: {len(_cases) - len(failed)} of {len(_cases)} cases passed in {time.time() - begin:.1f} s")
    sys.exit(1 if failed else 0)


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"found {str(found)[:500]!r}, expected {str(expected)[:500]!r}")
