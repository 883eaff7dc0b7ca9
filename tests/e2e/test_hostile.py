"""What a stranger, a broken disk or an attacker does to `koalemos serve`: no false ack, nothing wrong
served, words instead of silence, and the others are answered meanwhile."""
import json
import os
import random
import signal
import socket
import struct
import subprocess
import time

import koa
from koa import api, check, eventually, http

MIB = 1 << 20
SERIES = 40
ROWS = 50


def skipped(why):
    print(f"       SKIPPED, NOTHING TESTED: {why}", flush=True)


class Ledger:
    """Pushes batches of values that no codec makes small, and knows which were acknowledged."""

    def __init__(self, ours, metric="ledger"):
        self.ours, self.metric = ours, metric
        self.begin_ms = int(time.time() * 1000) - 3600_000
        self.acked, self.tried = set(), 0

    @staticmethod
    def values(batch):
        """A list of ROWS values for each series."""
        bits = struct.unpack(f"<{SERIES * ROWS}Q", random.Random(batch).randbytes(8 * SERIES * ROWS))
        all_values = [1 + (b >> 12) * 2.0 ** -52 for b in bits]
        return [all_values[s * ROWS:(s + 1) * ROWS] for s in range(SERIES)]

    def push(self):
        """(status, words); nothing but 204 is an ack."""
        batch = self.tried
        self.tried += 1
        at = self.begin_ms + batch * ROWS
        status, words = koa.push(self.ours.push, [
            ({"__name__": self.metric, "series": str(s)}, [(at + r, v) for r, v in enumerate(values)])
            for s, values in enumerate(self.values(batch))])
        if status == 204:
            self.acked.add(batch)
        return status, words

    def verify(self, when):
        """Every acked sample is there with its value; of a batch not acked, nothing or what was sent."""
        end = (self.begin_ms + (self.tried + 1) * ROWS) / 1000
        got = api(self.ours.query, "query", query=f"{self.metric}[2h]", time=f"{end:.3f}")["result"]
        check(len(got) == SERIES, f"{when}: {len(got)} series")
        sent_by = [self.values(batch) for batch in range(self.tried)]
        for s in got:
            number = int(s["metric"]["series"])
            values = {round(t * 1000) - self.begin_ms: float(v) for t, v in s["values"]}
            for batch in range(self.tried):
                rows = [values.pop(batch * ROWS + r, None) for r in range(ROWS)]
                sent = sent_by[batch][number]
                check(rows == sent or (batch not in self.acked and not any(rows)),
                      f"{when}: batch {batch} ({'acked' if batch in self.acked else 'refused'}) of series {number}: "
                      f"{sum(r is None for r in rows)} of {ROWS} samples are missing")
            check(not values, f"{when}: samples that nobody sent: {sorted(values)[:3]}")


class SmallDisk:
    """A file system of a few MiB; None where we may not mount one."""

    @staticmethod
    def mounted(world, size):
        path = world.path("disk")
        os.makedirs(path)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path],
                              capture_output=True, text=True)
        if done.returncode != 0:
            skipped(f"no tmpfs can be mounted here: {done.stderr.strip()}")
            return None
        world.callback(subprocess.run, ["umount", "-l", path], check=True)
        return path

    @staticmethod
    def resize(path, size):
        subprocess.run(["mount", "-o", f"remount,size={size}", path], check=True)


def free_bytes(path):
    s = os.statvfs(path)
    return s.f_bavail * s.f_frsize


def test_a_full_disk_refuses_with_503_answers_on_and_keeps_what_was_acked(world):
    disk = SmallDisk.mounted(world, 4 * MIB)
    if disk is None:
        return
    ours = koa.Serve(world, data=os.path.join(disk, "data"))
    ledger = Ledger(ours)
    while free_bytes(disk) > 1.7 * MIB:
        status, words = ledger.push()
        check(status == 204, f"with {free_bytes(disk)} bytes free: {status} {words}")
    # The log holds more than is free: a flush runs out of disk in its midst.
    status, _, words = http(f"{ours.flush}/api/v1/admin/tsdb/flush", b"", method="POST")
    check(status == 503 and b"space" in words.lower(), f"a flush without room: {status} {words[:300]!r}")
    ledger.verify("after a flush that found no room")
    for _ in range(400):
        status, words = ledger.push()
        if status != 204:
            break
    check(status == 503 and "space" in words.lower(), f"on a full disk: {status} {words!r}")
    ledger.verify("on a full disk")
    for _ in range(5):
        status, words = ledger.push()
        check(status in (204, 503), f"on a full disk, again: {status} {words!r}")
    ledger.verify("on a full disk after more tries")
    check(ours.process.alive(), "the server died of a full disk")

    SmallDisk.resize(disk, 64 * MIB)
    eventually("pushes are taken again", lambda: ledger.push()[0] == 204, 20)
    ledger.verify("with room again")
    eventually("the flush succeeds",
               lambda: http(f"{ours.flush}/api/v1/admin/tsdb/flush", b"", method="POST")[0] == 204, 20)
    ledger.verify("flushed with room again")
    check(ledger.push()[0] == 204, "a push after the flush")
    ours.process.kill()
    ours.process.start()
    ours.ready()
    ledger.verify("after a restart")


def test_a_server_that_restarts_on_a_full_disk_says_so_and_starts_when_there_is_room(world):
    disk = SmallDisk.mounted(world, 1 * MIB)
    if disk is None:
        return
    ours = koa.Serve(world, data=os.path.join(disk, "data"))
    ledger = Ledger(ours)
    while ledger.push()[0] == 204:
        pass
    ours.process.kill()
    try:
        with open(os.path.join(disk, "ballast"), "wb", buffering=0) as f:
            while f.write(b"x" * 4096) > 0:
                pass
    except OSError:
        pass
    ours.process.start()
    try:
        ours.ready(5)
        ledger.verify("restarted on a full disk")
    except koa.Failed:
        check(not ours.process.alive() and "space" in ours.process.words().lower(),
              f"neither serves nor says why: {ours.process.words()[-400:]}")
        ours.process.may_be_gone = True
    SmallDisk.resize(disk, 16 * MIB)
    if not ours.process.alive():
        ours.process.start()
    ours.ready()
    ledger.verify("restarted with room")
    check(ledger.push()[0] == 204, "a push with room")


class FailingSync:
    """From here on every fsync and fdatasync of the process fails with EIO."""

    def __init__(self, world, process):
        self.tracer = world.run("strace", "strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-e",
                                "inject=fsync,fdatasync:error=EIO", "-p", str(process.child.pid))

    def end(self):
        self.tracer.child.send_signal(signal.SIGINT)
        self.tracer.child.wait(10)


def may_trace(world):
    try:
        done = subprocess.run(["strace", "-qq", "-e", "inject=fsync:error=EIO", "-e", "trace=fsync", "true"],
                              capture_output=True, text=True)
    except FileNotFoundError:
        skipped("strace is not installed")
        return False
    if done.returncode != 0:
        skipped(f"strace may not trace here: {done.stderr.strip()[:200]}")
    return done.returncode == 0


def test_after_a_failed_fsync_nothing_is_acked_until_a_restart_and_nothing_acked_is_lost(world):
    if not may_trace(world):
        return
    ours = koa.Serve(world)
    ledger = Ledger(ours)
    for _ in range(5):
        check(ledger.push()[0] == 204, "a push while the disk is well")
    fault = FailingSync(world, ours.process)
    eventually("the first push that is refused", lambda: ledger.push()[0] != 204, 20)
    for _ in range(3):
        status, words = ledger.push()
        check(status == 503 and "Input/output error" in words, f"a push after a failed sync: {status} {words!r}")
    status, _, words = http(f"{ours.push}/-/ready")
    check(status == 503 and b"Input/output error" in words, f"/-/ready: {status} {words!r}")
    ledger.verify("while the disk fails")
    fault.end()
    # The disk pretends to be well again: what the failed sync lost stays lost, so no ack.
    for _ in range(3):
        status, words = ledger.push()
        check(status == 503, f"a push to a file whose sync has failed: {status} {words!r}")
    ledger.verify("after the disk failed")
    ours.process.kill()
    ours.process.start()
    ours.ready()
    ledger.verify("after a restart")
    check(ledger.push()[0] == 204, "a push after a restart")
