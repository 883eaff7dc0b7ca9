"""The programs as they are linked: nothing of them lies where it can be guessed, or is writable and runs."""
import os
import subprocess

import koa
from koa import check


def readelf(*args):
    return subprocess.run(["readelf", "-W", *args], capture_output=True, text=True, timeout=60, check=True).stdout


def test_programs_are_position_independent_and_bound_before_they_run(world):
    for program in ("koalemos", "doorman", "ingestor", "querier"):
        path = os.path.join(koa.BIN, program)
        symbols = readelf("--dyn-syms", path)
        if "__asan_init" in symbols or "__tsan_init" in symbols or "__gcov" in readelf("-s", path):
            continue                                   # built for tests
        check("DYN (Position-Independent" in readelf("-h", path), f"{program} lies at a fixed address")
        check("FLAGS_1" in readelf("-d", path) and "NOW" in readelf("-d", path), f"{program} is bound as it runs")
        segments = readelf("-l", path)
        check("GNU_RELRO" in segments, f"{program}: its tables stay writable")
        stack, = [line for line in segments.splitlines() if "GNU_STACK" in line]
        check("RWE" not in stack, f"{program}: its stack may be executed")
        check("RWE" not in segments, f"{program}: a segment is written and executed")
        check("__stack_chk_fail" in symbols, f"{program}: stacks have no guard")
