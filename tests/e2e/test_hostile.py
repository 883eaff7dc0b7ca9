"""What a stranger, a broken disk or an attacker does to `koalemos serve`: no false ack, nothing wrong
served, words instead of silence, and the others are answered meanwhile."""
import contextlib
import ctypes
import ctypes.util
import gzip
import http.client as http_client
import json
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import threading
import time
from urllib.parse import quote, urlencode

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

        def unmount():
            subprocess.run(["umount", "-l", path], check=True)
            with contextlib.suppress(OSError):         # not empty: it was to be kept
                os.removedirs(path)
        world.callback(unmount)                        # after everything in it has ended
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
    ours = koa.Serve(world, "--disk.high_water", "0", data=os.path.join(disk, "data"))
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
    ours = koa.Serve(world, "--disk.high_water", "0", data=os.path.join(disk, "data"))
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


# ---- HTTP ----

RESIDENT_MAX = 512 * MIB


def connect(ours, timeout=10):
    return socket.create_connection(("127.0.0.1", ours.port), timeout)


def raw(ours, *pieces, timeout=10):
    """What a connection gives back until it is closed or silent; b"" where nothing is said."""
    got = b""
    with connect(ours, timeout) as s:
        try:
            for p in pieces:
                s.sendall(p)
            while not got.endswith(b"\r\n0\r\n\r\n"):
                more = s.recv(65536)
                if not more:
                    break
                got += more
                head, _, body = got.partition(b"\r\n\r\n")
                length = [int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")]
                if length and len(body) >= length[0]:
                    break
        except (ConnectionError, socket.timeout):
            pass
    return got


def lives(ours, when, seconds=1.0):
    """It answers others meanwhile, soon, and has not grown past its bound."""
    begin = time.monotonic()
    check(koa.instant(ours.query, "1 + 1") == 2.0, f"{when}: 1 + 1")
    took = time.monotonic() - begin
    check(took < seconds, f"{when}: another's question took {took:.2f} s")
    check(ours.process.alive(), f"{when}: the server died: {ours.process.words()[-600:]}")
    resident = ours.process.resident_bytes()
    check(resident < RESIDENT_MAX, f"{when}: {resident >> 20} MiB resident")


def stays_small(ours):
    peak = ours.process.peak_bytes()
    check(peak < RESIDENT_MAX, f"{peak >> 20} MiB at its peak")
    print(f"  at most {peak >> 20} MiB resident", flush=True)


def test_connections_that_dawdle_or_idle_keep_nobody_from_an_answer(world):
    ours = koa.Serve(world)
    slow = [connect(ours) for _ in range(100)]
    heads = (b"GET /api/v1/query?query=1 HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 5000,
             b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
             b"Content-Encoding: snappy\r\nContent-Length: 33000000\r\n\r\n" + b"\0" * 5000)
    for n, s in enumerate(slow):
        s.sendall(heads[n % 2][:60 if n % 2 == 0 else 160])
    idle = [connect(ours) for _ in range(2000)]
    for n in range(4):
        for i, s in enumerate(slow):
            s.sendall(heads[i % 2][200 + n:201 + n])
        lives(ours, f"100 slow and 2000 idle connections, second {n}")
        status, words = koa.push(ours.push, [({"__name__": "meanwhile"}, [(int(time.time() * 1000), 1.0)])])
        check(status == 204, f"a push meanwhile: {status} {words}")
        time.sleep(0.5)
    for s in slow + idle:
        s.close()
    lives(ours, "after them")


def test_ten_thousand_connections_that_idle_or_never_end_their_requests_stay_within_bounds_of_memory(world):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 11_000:
        skipped(f"this machine allows {hard} open files")
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (11_000 if hard == resource.RLIM_INFINITY else hard, hard))
    ours = koa.Serve(world, "--http.connections_max=12000")
    long_headers = b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(20))
    kinds = {
        "idle": b"",
        "a head without end": b"GET /api/v1/query?query=1 HTTP/1.1\r\nHost: x\r\n" + long_headers,
        "a long request line": b"GET /api/v1/query?query=" + b"1" * 20_000 + b" HTTP/1.1\r\nHost: x\r\nX: ",
        "a body without end": b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
                              b"Content-Encoding: snappy\r\nContent-Length: 1000000\r\n\r\n" + bytes(50_000),
    }
    for kind, begin in kinds.items():
        held = []
        for _ in range(10_000):
            s = connect(ours, 30)
            held.append(s)
            s.setblocking(False)
            try:
                s.send(begin)
            except OSError:                            # answered and closed already
                pass
        lives(ours, f"10,000 connections, {kind}", 5.0)
        status, words = koa.push(ours.push, [({"__name__": "meanwhile"}, [(int(time.time() * 1000), 1.0)])])
        # Bodies that never end may hold all there is room for: then 503, and never silence.
        check(status == 204 or (status == 503 and "body" in kind), f"{kind}: a push meanwhile: {status} {words}")
        for s in held:
            s.close()
        koa.eventually(f"{kind}: a push afterwards", lambda: koa.push(
            ours.push, [({"__name__": "after"}, [(int(time.time() * 1000), 1.0)])])[0] == 204, 20)
    stays_small(ours)


def test_bodies_of_unclear_length_and_odd_requests_are_refused_and_harm_nobody(world):
    ours = koa.Serve(world)
    post = b"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    hidden = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
    chunked = raw(ours, post, b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n", b"6\r\nquery=\r\n", b"1\r\n1\r\n", b"0\r\n\r\n")
    check(b" 200 " in chunked.split(b"\r\n")[0] and b"success" in chunked, f"a chunked body: {chunked[:200]}")
    for name, headers, body in (
            ("both lengths", b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + hidden),
            ("two lengths", b"Content-Length: 7\r\nContent-Length: 70\r\n", b"query=1" + hidden),
            ("two equal codings", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + hidden),
            ("a coding of coding", b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n" + hidden),
            ("an odd coding", b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + hidden),
            ("a negative length", b"Content-Length: -7\r\n", b"query=1" + hidden),
            ("a signed length", b"Content-Length: +7\r\n", b"query=1" + hidden),
            ("a worded length", b"Content-Length: seven\r\n", b"query=1" + hidden),
            ("a huge length", b"Content-Length: 99999999999999999999999\r\n", b"query=1" + hidden),
            ("a bad chunk size", b"Transfer-Encoding: chunked\r\n", b"zz\r\nquery=1\r\n0\r\n\r\n" + hidden),
            ("a huge chunk size", b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\nquery=1\r\n0\r\n\r\n" + hidden),
            ("a negative chunk size", b"Transfer-Encoding: chunked\r\n", b"-1\r\nquery=1\r\n0\r\n\r\n" + hidden)):
        got = raw(ours, post + headers + b"\r\n", body, timeout=2)
        line = got.split(b"\r\n")[0]
        check(not line or b" 400 " in line or b" 413 " in line, f"{name}: {got[:200]}")
        check(b"HTTP/1.1 2" not in got, f"{name}: a request hidden in the body was answered: {got[:500]}")
        check(ours.process.alive(), f"{name}: the server died")
    for name, request in (
            ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
            ("a NUL in the path", b"GET /api/v1/\0query HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("a line without end", b"GET /" + b"a" * 200_000),
            ("headers without end", b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000))),
            ("a gigantic header", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n"),
            ("HTTP/9.9", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n"),
            ("a folded header", b"GET /version HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: a\r\n b\r\nConnection: close\r\n\r\n"),
            ("a space before a colon", b"GET /version HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID : a\r\nConnection: close\r\n\r\n"),
            ("a gigantic query", b"GET /api/v1/query?query=" + b"1" * 300_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("a bad escape", b"GET /api/v1/query?query=%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            ("a cut escape", b"GET /api/v1/query?query=%2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            ("an escaped NUL", b"GET /api/v1/label/%00/values HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            ("a climbing path", b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            ("100,000 parameters", b"GET /api/v1/query?" + b"a=1&" * 7000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")):
        got = raw(ours, request, timeout=2)
        line = got.split(b"\r\n")[0]
        check(not got or line.startswith(b"HTTP/1."), f"{name}: {got[:100]}")
        check(b" 500 " not in line, f"{name}: {got[:300]}")
        if "escape" in name:
            check(b" 400 " in line, f"{name}: {got[:200]}")
        check(ours.process.alive(), f"{name}: the server died: {ours.process.words()[-400:]}")
    lives(ours, "after all that")


ENDPOINTS = ("query query_range query_exemplars format_query parse_query labels series search/metric_names "
             "search/label_names search/label_values label/a/values metadata rules alerts status/buildinfo "
             "status/runtimeinfo status/flags status/config status/tsdb status/tsdb/blocks status/walreplay features "
             "openapi.yaml read targets targets/metadata scrape_pools alertmanagers status/active_queries "
             "status/top_queries cardinality/label_names cardinality/label_values cardinality/active_series "
             "series/count export export/csv user_stats user_limits query_explain admin/tsdb/delete_series "
             "admin/tsdb/clean_tombstones admin/tsdb/snapshot admin/tsdb/flush koalemos/placement "
             "koalemos/shard-map koalemos/leader koalemos/lag koalemos/drain koalemos/split koalemos/repair koalemos/nodes write push "
             "otlp/v1/metrics import import/prometheus import/csv").split()
ROOTS = "/federate /otlp/v1/metrics /write /api/v2/write /ping /-/healthy /-/ready /ready /metrics /-/reload /version /config /".split()


def test_random_bytes_to_every_endpoint_are_answered_and_kill_nothing(world):
    ours = koa.Serve(world)
    draw = random.Random(23)
    check(koa.push(ours.push, [({"__name__": "there", "a": "b"}, [(int(time.time() * 1000), 1.0)])])[0] == 204, "push")
    nasty = ["", "0", "-1", "NaN", "Inf", "-Inf", "1e308", "9223372036854775807", "-9223372036854775808", "{", "}", "[]",
             "\x00", "\xff\xfe", "{__name__=~\".*\"}", "%", "a" * 3000, "5m", "-5m", "0s", "there[5m]", "\"", "'", "1970"]
    names = ("query", "time", "start", "end", "step", "timeout", "limit", "match[]", "metric", "limit_per_metric", "label",
             "lookback_delta", "stats", "batch_size", "search[]", "focusLabel", "topN", "date", "sort_by", "fuzz_threshold")
    types = ("application/x-www-form-urlencoded", "application/x-protobuf", "application/json", "text/plain", "", "a/b;c=\"",
             "application/x-protobuf;proto=io.prometheus.write.v2.Request", "multipart/form-data; boundary=x")
    codings = (None, None, "gzip", "snappy", "zstd", "deflate", "identity", "br")
    slowest = (0, "")
    for path in [f"/api/v1/{e}" for e in ENDPOINTS] + ROOTS:
        for n in range(6):
            query = "&".join(f"{quote(k)}={quote(draw.choice(nasty).encode('latin-1'))}"
                             for k in draw.sample(names, draw.randint(0, 6)))
            body = draw.randbytes(draw.choice((0, 1, 7, 100, 3000))) if n % 2 else query.encode()
            coding = draw.choice(codings)
            headers = {"Content-Type": draw.choice(types), **({"Content-Encoding": coding} if coding else {})}
            method = ("GET", "POST", "POST", "PUT", "DELETE", "HEAD")[n]
            begin = time.monotonic()
            try:
                status, _, words = http(f"{ours.query}{path}?{query}", body if method in ("POST", "PUT") else None, headers,
                                        timeout=10, method=method)
                check(status != 500, f"{method} {path}?{query}: 500 {words[:300]!r}")
            except (ConnectionError, http_client.HTTPException) as e:
                check(ours.process.alive(), f"{method} {path}?{query}: {e!r}: the server died")
            check(ours.process.alive(), f"{method} {path}?{query}: the server died: {ours.process.words()[-600:]}")
            slowest = max(slowest, (time.monotonic() - begin, f"{method} {path}?{query}"))
    check(slowest[0] < 5, f"{slowest[0]:.1f} s for {slowest[1]}")
    check(koa.one(ours.query, "there") == 1.0, "what was there before")
    lives(ours, "after random bytes")


# ---- queries ----

def ask(ours, path, **params):
    status, _, got = http(f"{ours.query}/api/v1/{path}",
                          urlencode(params, safe="*()-{}!=\",").encode(),
                          {"Content-Type": "application/x-www-form-urlencoded"})
    return status, got


def test_queries_made_to_hurt_get_documented_errors_within_their_bounds(world):
    ours = koa.Serve(world)
    now = int(time.time())
    check(koa.push(ours.push, [({"__name__": "wide", "n": str(n), "text": "a" * 40}, [(now * 1000 - i * 15000, float(n + i))
                                                                                   for i in (2, 1, 0)])
                               for n in range(3000)])[0] == 204, "push")
    cases = {
        "10 MB of ones": ("query", dict(query="1*" * 5_000_000 + "1"), (400, 413, 422)),
        "10 MB of a name": ("query", dict(query="a" * 10_000_000), (200, 400, 413, 422)),
        "10 MB of parentheses": ("query", dict(query="(" * 10_000_000), (400, 413)),
        "100,000 parentheses": ("query", dict(query="(" * 100_000 + "1" + ")" * 100_000), (400,)),
        "100,000 parentheses, open": ("query", dict(query="(" * 100_000), (400,)),
        "100,000 parentheses to format": ("format_query", dict(query="(" * 100_000 + "1" + ")" * 100_000), (400,)),
        "100,000 parentheses as a tree": ("parse_query", dict(query="(" * 100_000 + "1" + ")" * 100_000), (400,)),
        "100,000 parentheses for exemplars": ("query_exemplars", dict(query="(" * 100_000 + "a" + ")" * 100_000), (400,)),
        "100,000 parentheses to match": ("series", {"match[]": "(" * 100_000 + "a" + ")" * 100_000}, (400,)),
        "100,000 calls": ("query", dict(query="abs(" * 100_000 + "wide" + ")" * 100_000), (400,)),
        "100,000 signs": ("query", dict(query="-" * 100_000 + "1"), (200, 400)),
        "100,000 subqueries": ("query", dict(query="wide" + "[5m:1m]" * 100_000), (400,)),
        "100,000 ors": ("query", dict(query=" or ".join(["wide"] * 100_000)), (200, 400, 422)),
        "100,000 powers": ("query", dict(query="^".join(["2"] * 100_000)), (200, 400, 422)),
        "a duration of parentheses": ("query", dict(query="wide[" + "(" * 100_000 + "5m" + ")" * 100_000 + "]"), (400,)),
        "a wide aggregation": ("query", dict(query="sum by (" + ",".join(f"l{n}" for n in range(50_000)) + ") (wide)"), (200, 400, 422)),
        "70 selectors for exemplars": ("query_exemplars", dict(query="+".join(["wide"] * 70)), (400,)),
        "a search of 10,000 letters": ("search/label_values", {"label": "text", "search[]": "a" * 10_000}, (400,)),
        "a search of many letters": ("search/label_values", {"label": "text", "search[]": "a" * 4_000, "fuzz_alg": "jarowinkler", "fuzz_threshold": "1"}, (200,)),
        "csv of many columns": ("export/csv", {"match[]": "wide", "format": ",".join("a" * 1 for n in range(1000))}, (400,)),
        "10 MB of minus": ("query", dict(query="-" * 10_000_000 + "1"), (400, 413)),
        "10 MB of matchers": ("query", dict(query="{" + "a!=\"b\"," * 1_200_000 + "}"), (400, 413, 422)),
        "10^9 steps": ("query_range", dict(query="wide", start=0, end=10**9, step=1), (400,)),
        "10^9 steps below": ("query", dict(query="sum_over_time(vector(1)[1000000000s:1s])", time=now), (200, 422, 503)),
        "nested steps below": ("query", dict(query="max_over_time(max_over_time(max_over_time(vector(1)[90d:1s])[90d:1s])[90d:1s])"), (200, 422, 503)),
        "step below a nanosecond": ("query_range", dict(query="1", start=0, end=1, step="1e-12"), (400,)),
        "a negative step": ("query_range", dict(query="1", start=0, end=1, step="-1"), (400,)),
        "a NaN step": ("query_range", dict(query="1", start=0, end=1, step="NaN"), (400,)),
        "an infinite step": ("query_range", dict(query="1", start=0, end=1, step="Inf"), (400,)),
        "NaN times": ("query", dict(query="wide", time="NaN"), (400,)),
        "Inf times": ("query", dict(query="wide", time="Inf"), (400,)),
        "huge times": ("query", dict(query="wide", time="1e300"), (400,)),
        "INT64 ranges": ("query_range", dict(query="1", start="-9223372036854775808", end="9223372036854775807", step=1), (400,)),
        "a time at INT64_MAX": ("query", dict(query="wide offset -300y", time="9223372036854775807"), (200, 400, 422)),
        "a time at the end of ms": ("query", dict(query="rate(wide[300y]) + wide @ 9223372036854775 offset 300y", time="9223372036854775.807"), (200, 400, 422)),
        "a time at the start of ms": ("query", dict(query="wide[300y] offset 300y", time="-9223372036854775.808"), (200, 400, 422)),
        "@ NaN": ("query", dict(query="wide @ NaN"), (400,)),
        "@ 1e300": ("query", dict(query="wide @ 1e300"), (400,)),
        "a catastrophic regex": ("query", dict(query="wide{text=~\"(a+)+b\"}"), (200,)),
        "a counted regex": ("query", dict(query="wide{text=~\"((a{1,100}){1,100}){1,100}\"}"), (200, 400, 422)),
        "a long regex": ("query", dict(query="wide{text=~\"" + "(a|b)?" * 10_000 + "\"}"), (200, 400, 422)),
        "a many-ways regex": ("query", dict(query="wide{text=~\"" + "|".join(f".*{n}.*" for n in range(6_000)) + "\"}"), (200, 400, 422)),
        "a deep regex": ("query", dict(query="wide{text=~\"" + "(" * 5000 + "a" + ")" * 5000 + "\"}"), (200, 400, 422)),
        "a regex for label_replace": ("query", dict(query="label_replace(wide, \"x\", \"$1\", \"text\", \"(a*)*(a*)*(a*)*b\")"), (200,)),
        "a doubling label": ("query", dict(query="label_replace(" * 40 + "wide" + ", \"text\", \"$1$1$1$1\", \"text\", \"(.*)\")" * 40), (200, 400, 422)),
        "a doubling join": ("query", dict(query="label_join(" * 40 + "wide" + ", \"text\", \"\", \"text\", \"text\", \"text\")" * 40), (200, 400, 422)),
        "a cross product": ("query", dict(query="wide * on() wide"), (422,)),
        "a cross product, grouped": ("query", dict(query="wide * on() group_left wide"), (422,)),
        "a pyramid": ("query", dict(query="+".join(["count(wide)"] * 1000)), (200, 400, 422)),
        "count_values": ("query_range", dict(query="count_values(\"v\", wide * time())", start=now - 10_000, end=now, step=1), (200, 422, 503)),
        "limit 0": ("query", dict(query="wide", limit=0), (200,)),
        "limit -1": ("query", dict(query="wide", limit=-1), (400,)),
        "limit of words": ("query", dict(query="wide", limit="many"), (400,)),
        "limit past 64 bits": ("query", dict(query="wide", limit="99999999999999999999"), (400,)),
        "timeout 0": ("query", dict(query="wide", timeout=0), (200, 400, 503)),
        "timeout -1": ("query", dict(query="wide", timeout=-1), (200, 400, 503)),
        "lookback of ages": ("query", dict(query="wide", lookback_delta="290y"), (200, 400)),
        "matchers of labels": ("labels", {"match[]": "{a=~\"(a+)+b\"}"}, (200, 400, 422)),
        "series at the ends of time": ("series", {"match[]": "wide", "start": "-9223372036854775", "end": "9223372036854775"}, (200, 400)),
        "labels, limit -1": ("labels", dict(limit=-1), (400,)),
    }
    for name, (path, params, wanted) in cases.items():
        begin = time.monotonic()
        status, body = ask(ours, path, **params)
        took = time.monotonic() - begin
        check(status in wanted, f"{name}: {status} {body[:300]!r}, wanted one of {wanted}")
        if status != 200:
            got = json.loads(body)
            check(got["status"] == "error" and got["error"] and
                  got["errorType"] in ("bad_data", "execution", "timeout", "canceled", "unavailable", "too_large"), f"{name}: {body[:300]!r}")
        check(took < 10, f"{name}: {took:.1f} s")
        lives(ours, name)
        check(ours.process.resident_bytes() < 1200 * MIB, f"{name}: {ours.process.resident_bytes() >> 20} MiB are held after it")
        if os.environ.get("KOA_E2E_TIMES"):
            print(f"{name}: {status} in {took:.2f} s, {ours.process.resident_bytes() >> 20} MiB, {body[:150]!r}", flush=True)


def test_questions_that_take_long_do_not_keep_others_from_theirs(world):
    ours = koa.Serve(world, "--querier.timeout", "4s")
    now = int(time.time())
    check(koa.push(ours.push, [({"__name__": "wide", "n": str(n)}, [(now * 1000, float(n))]) for n in range(2000)])[0] == 204, "push")
    answers = []

    def long():
        answers.append(ask(ours, "query", query="sum(max_over_time(sum by (n) (wide * 2)[90d:1s]))", time=now))
    many = [threading.Thread(target=long) for _ in range(8)]
    for t in many:
        t.start()
    for _ in range(8):
        time.sleep(0.2)
        lives(ours, "beside 8 long questions", 2.0)
        check(koa.push(ours.push, [({"__name__": "beside"}, [(int(time.time() * 1000), 1.0)])])[0] == 204, "push")
    for t in many:
        t.join(30)
    check(len(answers) == 8 and all(s in (200, 422, 503) for s, _ in answers), f"{[(s, b[:200]) for s, b in answers]}")
    lives(ours, "after them")


# ---- payloads ----

def zstd(data):
    lib = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    lib.ZSTD_compressBound.restype = lib.ZSTD_compress.restype = ctypes.c_size_t
    out = ctypes.create_string_buffer(lib.ZSTD_compressBound(ctypes.c_size_t(len(data))))
    size = lib.ZSTD_compress(out, ctypes.c_size_t(len(out)), data, ctypes.c_size_t(len(data)), 1)
    return out.raw[:size]


def test_bodies_that_unpack_to_far_more_are_refused_within_bounds_of_memory(world):
    ours = koa.Serve(world)
    write, text = "/api/v1/write", "/api/v1/import/prometheus"
    zeros = bytes(120 * MIB)
    packed = {"snappy": koa.snappy(zeros), "gzip": gzip.compress(zeros, 1), "zstd": zstd(zeros)}
    larger = {"snappy": koa.snappy(bytes(200 * MIB)), "gzip": gzip.compress(bytes(200 * MIB), 1), "zstd": zstd(bytes(200 * MIB))}
    del zeros
    lie = b"\xff\xff\xff\x3f" + koa.snappy(b"x" * 100)[1:]                   # says 128 MiB and is 100 bytes
    answers = []

    def send(name, path, body, coding, wanted):
        kind = "text/plain" if path == text else "application/x-protobuf"
        try:
            status, _, words = http(f"{ours.push}{path}", body, {"Content-Type": kind, "Content-Encoding": coding})
        except OSError as e:
            status, words = 0, repr(e).encode()
        answers.append((name, status, words[:200], status in wanted and words))
    cases = [("a lie", write, lie, "snappy", (400, 413))]
    for coding in packed:
        path = write if coding != "gzip" else text
        cases += [(f"{coding} of 200 MiB", path, larger[coding], coding, (413, 415)),
                  (f"{coding} of 120 MiB", path, packed[coding], coding, (400, 413, 415, 429, 503))]
    threads = [threading.Thread(target=send, args=c) for c in cases for _ in range(6)]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        lives(ours, "beside bodies that unpack to much", 2.0)
        time.sleep(0.1)
    unfit = [a for a in answers if not a[3]]
    check(not unfit, f"{unfit[:3]}")
    lives(ours, "after them")
    stays_small(ours)
    check(koa.push(ours.push, [({"__name__": "x"}, [(int(time.time() * 1000), 1.0)])])[0] == 204, "a good push after that")


def test_hostile_protobuf_is_refused_and_huge_but_valid_payloads_are_taken_whole(world):
    ours = koa.Serve(world)
    now = int(time.time() * 1000)

    def post(message):
        status, _, words = http(f"{ours.push}/api/v1/write", koa.snappy(message), koa.RW1)
        return status, words
    good = koa.rw1_series({"__name__": "good"}, [(now, 1.0)])
    series = lambda labels: koa._field(1, labels + b"\x12\x10\x09" + struct.pack("<d", 1) + b"\x10" + koa._varint(now))
    for name, message in (
            ("a varint of 11 bytes", b"\x0a" + b"\xff" * 10 + b"\x01" + good),
            ("an endless varint", b"\x80" * 100_000),
            ("a length of 2^64-1", b"\x0a" + b"\xff" * 9 + b"\x01"),
            ("a length of 2^63", b"\x0a" + b"\x80" * 9 + b"\x01"),
            ("a label reaching past its series", b"\x0a\x06\x0a\x7fabcd"),
            ("field number 0", b"\x02\x00"),
            ("groups in groups", b"\x0b" * 100_000),
            ("an end of no group", b"\x0c"),
            ("wire type 7", b"\x0f\x00"),
            ("a million labels", series(b"".join(b"\x0a\x0d\x0a\x08l%07d\x12\x01v" % n for n in range(1_000_000)))),
            ("a million empty series", b"\x0a\x00" * 1_000_000),
            ("a million labels without a name", series(b"\x0a\x04\x0a\x00\x12\x00" * 1_000_000))):
        status, words = post(message)
        check(status == 400 and words.strip() and len(words) < 20_000, f"{name}: {status} {len(words)} {words[:300]!r}")
        lives(ours, name)
    check(post(good)[0] == 204, "a good one after that")

    # A million samples in one series, unsorted; and values that change within a request.
    times = [now - n for n in range(1_000_000)]
    random.Random(1).shuffle(times)
    labels = koa._field(1, koa._field(1, b"__name__") + koa._field(2, b"million"))
    samples = b"".join(b"\x12\x10\x09" + struct.pack("<d", t - now) + b"\x10" + koa._varint(t) for t in times)
    status, words = post(koa._field(1, labels + samples))
    check(status == 204, f"a million samples: {status} {words[:300]!r}")
    status, words = post(koa.rw1_series({"__name__": "twice"}, [(now, 1.0), (now, 2.0), (now - 5, 7.0), (now, 3.0)]) +
                         koa.rw1_series({"__name__": "twice"}, [(now, 4.0), (now - 5, 8.0)]))
    check(status == 204, f"one timestamp, four values: {status} {words[:300]!r}")

    def holds(when):
        at = now / 1000
        check(koa.one(ours.query, "count_over_time(million[30m])", at=at) == 1_000_000, f"{when}: not a million")
        check(koa.one(ours.query, "sum_over_time(million[30m])", at=at) == -sum(range(1_000_000)), f"{when}: another sum")
        got = api(ours.query, "query", query="twice[1m]", time=f"{at:.3f}")["result"][0]["values"]
        check([float(v) for _, v in got] == [8.0, 4.0], f"{when}: of several values the last should win: {got}")

    # A series larger than a message of the bus is flushed early; until then its question gets 503 and words.
    def holds_soon(when):
        def asks():
            holds(when)
            return True
        status, got = answer(ours, "count_over_time(million[30m])", time=now / 1000)
        check(status in (200, 503) and (status == 200 or "larger than a message" in got["error"]), f"{when}: {status} {got}")
        eventually(when, asks, 20)
    holds_soon("from memory")
    ours.process.kill()
    ours.process.start()
    ours.ready()
    holds_soon("after a restart")
    ours.flush_all()
    holds("from filesets")
    lives(ours, "after a million samples")
    stays_small(ours)


def test_hostile_remote_write_2_and_otlp_are_refused_within_bounds_of_memory(world):
    ours = koa.Serve(world)
    now = int(time.time() * 1000)
    field, varint = koa._field, koa._varint
    v2 = {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request", "Content-Encoding": "snappy"}
    symbols = lambda *texts: b"".join(field(4, t) for t in (b"", *texts))
    sample = field(2, b"\x09" + struct.pack("<d", 1) + b"\x10" + varint(now))
    series = lambda refs, more=b"": field(5, field(1, b"".join(varint(r) for r in refs)) + sample + more)
    good = symbols(b"__name__", b"good") + series([1, 2])

    def nest(depth, number=1):
        inside = b""
        for _ in range(depth):
            if len(inside) > 400_000:
                break
            inside = field(number, inside)
        return inside
    for name, path, headers, message, wanted in (
            ("an index past the symbols", "/api/v1/write", v2, symbols(b"__name__", b"x") + series([1, 3]), (400,)),
            ("an index of 2^32", "/api/v1/write", v2, symbols(b"__name__", b"x") + series([1, 2**32 + 2]), (400,)),
            ("an index of 2^64-1", "/api/v1/write", v2, symbols(b"__name__", b"x") + series([1, 2**64 - 1]), (400,)),
            ("an odd number of them", "/api/v1/write", v2, symbols(b"__name__", b"x") + series([1, 2, 1]), (400,)),
            ("a million labels", "/api/v1/write", v2, symbols(b"__name__", b"x") + series([1, 2] * 1_000_000), (400,)),
            ("10 million symbols", "/api/v1/write", v2, b"\x22\x00" * 10_000_000 + series([1, 2]), (400, 413)),
            ("a symbol of 40 MiB", "/api/v1/write", v2, symbols(b"__name__", b"x" * (40 << 20)) + series([1, 2]), (400, 413)),
            ("symbols behind their series", "/api/v1/write", v2, series([1, 2]) + symbols(b"__name__", b"late"), (204, 400)),
            ("an overlong varint", "/api/v1/write", v2, good + b"\x2a" + b"\xff" * 10 + b"\x01", (400,)),
            ("a length of 2^63", "/api/v1/write", v2, good + b"\x2a" + b"\x80" * 9 + b"\x01", (400,)),
            ("metadata of no symbol", "/api/v1/write", v2, symbols(b"__name__", b"m") + series([1, 2], field(5, b"\x08\x01\x18\x63")), (204, 400)),
            ("a histogram of 2^31 buckets", "/api/v1/write", v2, symbols(b"__name__", b"h") +
             field(5, field(1, b"\x01\x02") + field(3, b"\x08\x01" + field(11, b"\x08\x00\x10" + varint(2**31)) + b"\x78" + varint(now))), (400,)),
            ("OTLP, 100,000 levels", "/otlp/v1/metrics", {"Content-Type": "application/x-protobuf"}, nest(100_000), (200, 400)),
            ("OTLP, attributes in attributes", "/otlp/v1/metrics", {"Content-Type": "application/x-protobuf"},
             field(1, field(1, field(1, field(1, b"a") + field(2, nest(50_000, 5))))), (200, 400)),
            ("OTLP, JSON of 1,000,000 levels", "/otlp/v1/metrics", {"Content-Type": "application/json"}, b'{"resourceMetrics":' + b"[" * 1_000_000, (400,)),
            ("OTLP, cut", "/otlp/v1/metrics", {"Content-Type": "application/x-protobuf"}, b"\x0a\xff\xff\xff\xff\x0f", (400,))):
        body = koa.snappy(message) if headers is v2 else message
        status, _, words = http(f"{ours.push}{path}", body, headers)
        check(status in wanted and len(words) < 20_000, f"{name}: {status} {words[:300]!r}")
        lives(ours, name, 2.0)
    status, headers, words = http(f"{ours.push}/api/v1/write", koa.snappy(good), v2)
    check(status == 204 and headers.get("X-Prometheus-Remote-Write-Samples-Written") == "1", f"a good one: {status} {words}")
    check(koa.one(ours.query, "good") == 1.0, "the good one is not found")
    stays_small(ours)


def test_timestamps_at_the_ends_of_int64_are_kept_or_refused_and_harm_nothing(world):
    with open(world.path("far.yaml"), "w") as f:
        f.write("limits:\n  past: 0\n  future: 0\n")
    ours = koa.Serve(world, "--config", world.path("far.yaml"))
    now = int(time.time() * 1000)
    ends = [-2**63, -2**63 + 1, -2**62, -10**15, -1, 0, 1, 10**15, 2**62, 2**63 - 2, 2**63 - 1]
    taken = []
    for t in ends:
        status, words = koa.push(ours.push, [({"__name__": "far", "at": str(t)}, [(t, 1.5)])])
        check(status in (204, 400) and (status == 204 or words.strip()), f"at {t}: {status} {words!r}")
        if status == 204:
            taken.append(t)
    status, words = koa.push(ours.push, [({"__name__": "all"}, [(t, float(n)) for n, t in enumerate(ends)])])
    check(status in (204, 400), f"all at once: {status} {words!r}")
    check(koa.push(ours.push, [({"__name__": "near"}, [(now, 1.0)])])[0] == 204, "a sample of today")

    def holds(when):
        check(koa.one(ours.query, "near", at=now / 1000) == 1.0, f"{when}: today's sample")
        for t in taken:
            if abs(t) <= 10**15:
                check(koa.one(ours.query, f'far{{at="{t}"}}', at=t / 1000) == 1.5, f"{when}: the sample at {t}")
        found = [s for s in api(ours.query, "series", match="far", start=-2**60 // 1000, end=2**60 // 1000)]
        check(len(found) >= sum(abs(t) < 2**60 for t in taken), f"{when}: {found}")
    holds("from memory")
    ours.flush_all()
    holds("from filesets")
    ours.process.kill()
    ours.process.start()
    ours.ready()
    holds("after a restart")
    check(koa.push(ours.push, [({"__name__": "near"}, [(now + 1000, 2.0)])])[0] == 204, "a push after that")
    ours.flush_all()
    lives(ours, "after the ends of time")


# ---- tenants ----

def test_tenants_never_see_each_other_and_odd_names_are_refused_everywhere(world):
    ours = koa.Serve(world)
    now = int(time.time() * 1000)
    tenants = [None, "one", "two", "One", "one.two", "t" * 64]
    for n, t in enumerate(tenants):
        status, words = koa.push(ours.push, [({"__name__": "mine", "same": "series"}, [(now - 1000 * i, 100.0 * n + i) for i in (1, 0)]),
                                             ({"__name__": f"only_{n}", f"label_{n}": f"value_{n}"}, [(now, 1.0)])], tenant=t)
        check(status == 204, f"tenant {t}: {status} {words}")

    def apart(when):
        for n, t in enumerate(tenants):
            got = api(ours.query, "query", tenant=t, query="mine[1m]", time=now / 1000)["result"]
            check(len(got) == 1 and [float(v) for _, v in got[0]["values"]] == [100.0 * n + 1, 100.0 * n],
                  f"{when}: tenant {t}: {got}")
            names = api(ours.query, "label/__name__/values", tenant=t)
            check(sorted(names) == sorted(["mine", f"only_{n}"]), f"{when}: tenant {t} sees {names}")
            labels = api(ours.query, "labels", tenant=t)
            check(sorted(labels) == sorted(["__name__", "same", f"label_{n}"]), f"{when}: tenant {t} sees {labels}")
            series = api(ours.query, "series", tenant=t, match='{__name__=~".+"}')
            check(len(series) == 2, f"{when}: tenant {t} sees {series}")
        check(instant_of(ours, "nobody", "mine") == {}, f"{when}: a tenant who wrote nothing sees something")
    apart("from memory")
    ours.flush_all()
    apart("from filesets")
    status, words = koa.push(ours.push, [({"__name__": "mine", "same": "series"}, [(now + 1000, 777.0)])], tenant="two")
    check(status == 204, f"{status} {words}")
    got = api(ours.query, "query", tenant="one", query="mine", time=now / 1000 + 2)["result"]
    check([float(s["value"][1]) for s in got] == [100.0], f"one sees two's newest: {got}")
    ours.process.kill()
    ours.process.start()
    ours.ready()
    check(instant_of(ours, "nobody", "mine") == {}, "after a restart")
    for odd in (".", "..", "a/b", "../one", "one ", "a b", "a*", "a>b", "a|b", "one|two", "a\\b", "a%2Fb", "\u00e9", "a\tb", "t" * 500, "$a", "a\"b"):
        headers = {"X-Scope-OrgID": odd.encode().decode("latin-1")}
        if odd != odd.strip():
            continue                                   # HTTP itself takes the blanks away
        for method, path, body in (("GET", "/api/v1/query?query=mine", None), ("GET", "/api/v1/labels", None),
                                   ("GET", "/api/v1/series?match[]=mine", None), ("GET", "/api/v1/label/a/values", None),
                                   ("GET", "/api/v1/query_range?query=mine&start=0&end=1&step=1", None),
                                   ("GET", "/api/v1/status/tsdb", None),
                                   ("POST", "/api/v1/import/prometheus", b"x 1\n"),
                                   ("POST", "/api/v1/write", koa.snappy(koa.rw1_series({"__name__": "x"}, [(now, 1.0)])))):
            kind = dict(koa.RW1) if path.endswith("write") else {"Content-Type": "text/plain"}
            status, _, words = http(f"{ours.push}{path}", body, {**(kind if body else {}), **headers}, method=method)
            check(status == 400 and words, f"tenant {odd!r:.60}: {method} {path}: {status} {words[:200]!r}")
    lives(ours, "after odd tenants")


def instant_of(ours, tenant, query):
    return koa.instant(ours.query, query, tenant=tenant)
