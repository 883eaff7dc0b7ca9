#!/usr/bin/env python3
"""Runs Prometheus' own test scripts against `koalemos serve` and prints the score.

    conformance.py --bin build/release/bin --scripts FOLDER [--quick] [more arguments of the runner]

FOLDER holds promqltest.py and testdata/. --quick: without the re-runs in range mode and pinned by @.
There is no threshold: the score is for people; exit status 1 means that it could not be run.
"""
import argparse
import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import koa  # noqa: E402


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--scripts", default="../shared/conformance")
    p.add_argument("--quick", action="store_true")
    a, more = p.parse_known_args()
    koa.BIN = os.path.abspath(a.bin)
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    if not any(m.endswith(".test") for m in more):
        more += sorted(glob.glob(os.path.join(a.scripts, "testdata", "*.test")))
    with koa.World() as world:
        ours = koa.Serve(world, "--config", os.path.join(root, "tests", "conformance.yaml"))
        ran = subprocess.run(
            [sys.executable, os.path.join(a.scripts, "promqltest.py"), "--remote-write-url", f"{ours.push}/api/v1/write",
             "--query-url", f"{ours.query}/api/v1", "--mode", "tenant", "--start-timestamps",
             *(["--variants", "none"] if a.quick else []), *more], timeout=1500)
        if not ours.process.alive():
            print(f"the server died: {ours.process.words()[-2000:]}")
            return 1
        return 0 if ran.returncode in (0, 1) else 1


if __name__ == "__main__":
    sys.exit(main())
