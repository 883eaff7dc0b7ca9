#!/usr/bin/env python3
"""Runs the end-to-end tests: every function test_* of every test_*.py here, or those that are named.
KOA_LONG=1 adds the functions long_*.

    run.py --bin build/release/bin --peers build/peers/bin [name ...]

A test gets a fresh World: a scratch folder and the processes it starts in it. Its name is the
promise. KOA_E2E_KEEP=1 keeps the folder of a test that failed.
"""
import argparse
import glob
import importlib
import os
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import koa  # noqa: E402


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--peers", required=True)
    p.add_argument("names", nargs="*", help="parts of test names; all without")
    a = p.parse_args()
    koa.BIN, koa.PEERS = os.path.abspath(a.bin), os.path.abspath(a.peers)

    passed, failed = 0, []
    kinds = ("test_", "long_") if os.environ.get("KOA_LONG") else ("test_",)
    here = os.path.dirname(os.path.abspath(__file__))
    for path in sorted(glob.glob(os.path.join(here, "test_*.py"))):
        module = importlib.import_module(os.path.basename(path)[:-3])
        for name, test in list(vars(module).items()):
            if not name.startswith(kinds) or (a.names and not any(n in name or n in path for n in a.names)):
                continue
            begin = time.monotonic()
            try:
                with koa.World() as world:
                    test(world)
                passed += 1
                verdict = "ok"
            except Exception as e:
                failed.append(name)
                verdict = "FAILED"
                if isinstance(e, koa.Failed):
                    print(f"{name}: {e}")
                traceback.print_exc()
            print(f"{verdict:6} {time.monotonic() - begin:6.1f} s  {name}", flush=True)
    for name in failed:
        print(f"failed: {name}")
    print(f"{passed} passed, {len(failed)} failed")
    return bool(failed) or passed == 0


if __name__ == "__main__":
    sys.exit(main())
