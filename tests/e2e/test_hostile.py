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


# ---- damage ----

def flip(path, offset, size=16):
    """Turns bits in place; an offset below 0 counts from the end."""
    with open(path, "r+b") as f:
        f.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        was = f.read(size)
        f.seek(-len(was), os.SEEK_CUR)
        f.write(bytes(b ^ 0xff for b in was))


def files_below(folder, name):
    return sorted(os.path.join(at, f) for at, _, files in os.walk(folder) for f in files if f.endswith(name))


def answer(ours, query, **params):
    """(status, the whole answer)."""
    from urllib.parse import urlencode
    status, _, body = http(f"{ours.query}/api/v1/query?{urlencode({'query': query, **params})}")
    return status, json.loads(body)


def test_a_damaged_fileset_is_named_in_the_answer_and_other_series_are_still_answered(world):
    for part, at in (("data", 0.5), ("meta", 0.1), ("meta", 0.5), ("meta", 0.99), ("checkpoint", 0.5)):
        ours = koa.Serve(world, name=f"serve-{part}-{at}", data=world.path(f"d-{part}-{at}"))
        ledger = Ledger(ours, "damaged")
        for _ in range(5):
            check(ledger.push()[0] == 204, "a push")
        now = int(time.time() * 1000)
        check(koa.push(ours.push, [({"__name__": f"whole_{n}"}, [(now, float(n))]) for n in range(20)])[0] == 204, "push")
        ours.flush_all()
        ours.process.kill()
        found = [f for f in files_below(world.path(f"d-{part}-{at}", "store"), "/" + part) + files_below(
            world.path(f"d-{part}-{at}", "store"), part) if os.path.basename(f) == part]
        check(found, f"no {part} in the store")
        # The fileset of the ledger is by far the largest.
        folder = max({os.path.dirname(f) for f in found}, key=lambda d: os.path.getsize(os.path.join(d, "data")))
        path = os.path.join(folder, part)
        flip(path, int(os.path.getsize(path) * at))
        ours.process.start()
        ours.ready()
        status, got = answer(ours, "damaged[2h]", time=now / 1000 + 1)
        words = json.dumps(got.get("warnings", got.get("error", "")))
        check(status in (200, 503) and os.path.basename(folder) in words,
              f"{part} at {at}: {status} and no word of {folder}: {words[:400]}")
        if status == 200:
            for s in got["data"]["result"]:            # a warning does not excuse a wrong sample
                number = int(s["metric"]["series"])
                for t, v in s["values"]:
                    batch, row = divmod(round(t * 1000) - ledger.begin_ms, ROWS)
                    check(float(v) == ledger.values(batch)[number][row], f"{part} at {at}: a wrong value")
        seen = 0
        for n in range(20):
            status, got = answer(ours, f"whole_{n}", time=now / 1000 + 1)
            check(status == 200, f"whole_{n}: {status} {got}")
            seen += len(got["data"]["result"])
            check(got["data"]["result"] or got.get("warnings"), f"{part} at {at}: whole_{n} is missing without a word")
        check(seen >= 10, f"{part} at {at}: only {seen} of 20 undamaged series are answered")
        check(ledger.push()[0] == 204, "pushes go on")
        ours.process.stop()


def test_damage_in_an_older_log_segment_is_named_and_never_served(world):
    ours = koa.Serve(world, "--log.segment_bytes", "65536")
    ledger = Ledger(ours, "logged")
    for _ in range(20):
        check(ledger.push()[0] == 204, "a push")
    ours.process.kill()
    segments = files_below(world.path("data"), ".seg")
    check(len(segments) >= 4, f"{len(segments)} segments")
    path = segments[len(segments) // 2]
    flip(path, os.path.getsize(path) // 2)
    ours.process.start()
    eventually("it ends or serves", lambda: not ours.process.alive() or http(f"{ours.push}/-/healthy")[0] == 200, 20)
    time.sleep(1.5)
    if not ours.process.alive():
        ours.process.may_be_gone = True
        check(os.path.basename(path)[:16] in ours.process.words(), f"no word of {path}: {ours.process.words()[-600:]}")
        return
    status, _, words = http(f"{ours.push}/-/ready")
    check(status == 503 and len(words) > 10, f"/-/ready of a damaged log: {status} {words!r}")
    check(os.path.basename(path)[:16] in ours.process.words() + words.decode(),
          f"no word of {path}: {ours.process.words()[-600:]}")
    status, got = answer(ours, "logged[2h]")
    check(status == 503 or got.get("warnings"), f"an answer without what is damaged and without a word: {status}")


def test_a_log_whose_last_bytes_a_crash_took_starts_and_keeps_what_was_synced_before(world):
    ours = koa.Serve(world)
    ledger = Ledger(ours, "torn")
    for _ in range(6):
        check(ledger.push()[0] == 204, "a push")
    ours.process.kill()
    newest = files_below(world.path("data"), ".seg")[-1]
    with open(newest, "ab") as f:
        f.write(os.urandom(3000))                      # of a write that never ended
    ours.process.start()
    ours.ready()
    ledger.verify("after a torn write")
    check(ledger.push()[0] == 204, "a push after a torn write")
    ours.process.kill()
    newest = files_below(world.path("data"), ".seg")[-1]
    os.truncate(newest, os.path.getsize(newest) - 7)   # the disk lied about the last sync
    ledger.acked.discard(ledger.tried - 1)
    ours.process.start()
    ours.ready()
    ledger.verify("after the last record was torn")
    check(ledger.push()[0] == 204, "a push after that")


# ---- folders that cannot be used ----

def test_folders_that_cannot_be_used_end_the_program_with_a_sentence(world):
    port = koa.free_port()

    def fails(name, program, *flags, wants, before=()):
        p = world.run(name, *before, os.path.join(koa.BIN, program), *flags, "--listen", f"127.0.0.1:{port}")
        status = p.ended(10)
        words = p.words()
        check(status not in (0, None) and status > 0, f"{name}: exit status {status}: {words[-400:]}")
        check(all(w in words for w in wants) and len(words.splitlines()) < 5, f"{name}: {words[-600:]}")

    dark = world.path("dark")
    os.makedirs(dark)
    if os.getuid() == 0:
        os.chmod(world.folder, 0o755)
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        copied = world.path("koalemos")                # where anyone may run it
        subprocess.run(["cp", os.path.join(koa.BIN, "koalemos"), copied], check=True)
        for name, mode in (("unreadable", 0o700), ("unwritable", 0o755)):
            os.chmod(dark, mode)
            fails(name, copied, "serve", "--data-dir", dark, wants=(dark, "ermission denied"), before=nobody)
    else:
        for name, mode in (("unreadable", 0), ("unwritable", 0o500)):
            os.chmod(dark, mode)
            fails(name, "koalemos", "serve", "--data-dir", dark, wants=(dark, "ermission denied"))
        os.chmod(dark, 0o700)
    fails("no parent", "koalemos", "serve", "--data-dir", "/proc/nothing/here", wants=("/proc/nothing/here",))
    fails("querier without a store", "querier", wants=("store.dir",))
    fails("ingestor without a store", "ingestor", "--data-dir", world.path("i"), wants=("store.dir",))
    fails("ingestor without a folder", "ingestor", "--store.dir", world.path("s"), wants=("data-dir",))
    with open(world.path("file"), "w"):
        pass
    fails("a file as store", "querier", "--store.dir", world.path("file"), wants=(world.path("file"),))
