"""Blocks of a Prometheus are moved in: what it answers about them, we answer."""
import json
import os
import random
import re
import shutil
import struct
import subprocess
import time
import urllib.parse

import koa
from koa import check, eventually, http
from test_generated import Asker, Grammar, JITTER_MS, ROWS, STALE, STEP_MS, differs, series_of

HOUR_MS = 3_600_000


def koalemos(world, *args, code=0):
    """Runs a command to its end; its words."""
    done = subprocess.run([os.path.join(koa.BIN, "koalemos"), *args], capture_output=True, text=True, timeout=300)
    check(done.returncode == code, f"koalemos {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    check(not any(w in done.stderr for w in koa.REPORTS), f"koalemos {args[0]}: {done.stderr[-3000:]}")
    return done.stdout + done.stderr


def promtool_blocks(world, series, start_ms, name="blocks"):
    """A folder of blocks, as promtool makes them of OpenMetrics."""
    path = world.path("in.om")
    with open(path, "w") as f:
        for labels, values in series:
            text = ",".join(f'{k}="{v}"' for k, v in sorted(labels.items()) if k != "__name__")
            for i, v in enumerate(values):
                if v is not None and struct.pack("<d", v) != struct.pack("<d", STALE):
                    f.write(f'{labels["__name__"]}{{{text}}} {v!r} {(start_ms + i * STEP_MS + JITTER_MS) / 1000:.3f}\n')
        f.write("# EOF\n")
    done = subprocess.run([os.path.join(koa.PEERS, "promtool"), "tsdb", "create-blocks-from", "openmetrics", path,
                           world.path(name)], capture_output=True, text=True)
    check(done.returncode == 0, f"promtool: {done.stderr}")
    return world.path(name)


_varint, _bytes = koa._varint, koa._field


def _zigzag(n):
    return _varint(n << 1 if n >= 0 else (-n << 1) - 1)


def _double(number, v):
    return _varint(number << 3 | 1) + struct.pack("<d", v)


def histogram(time_ms, buckets, negative, zero, total, schema=2, floats=False, gauge=False, stale=False):
    """A field `histograms` of a TimeSeries of remote write 1.0. buckets: two runs, a gap between them."""
    def spans(counts):
        half = len(counts) // 2
        return [(-2, half), (3, len(counts) - half)]

    def side(number, counts):
        out = b""
        for offset, length in spans(counts):
            out += _bytes(number, _varint(1 << 3) + _zigzag(offset) + _varint(2 << 3) + _varint(length))
        if floats:
            return out + _bytes(number + 2, b"".join(struct.pack("<d", c + 0.25) for c in counts))
        last, deltas = 0, b""
        for c in counts:
            deltas += _zigzag(c - last)
            last = c
        return out + _bytes(number + 1, deltas)
    count = sum(buckets) + sum(negative) + zero
    body = _double(3, STALE if stale else total)
    if not stale:
        body += _varint(4 << 3) + _zigzag(schema) + _double(5, 1e-3)
        if floats:
            body += _double(2, count + 0.25 * (len(buckets) + len(negative))) + _double(7, float(zero))
        else:
            body += _varint(1 << 3) + _varint(count) + _varint(6 << 3) + _varint(zero)
        body += side(8, negative) + side(11, buckets)
    else:
        body += _varint(1 << 3) + _varint(0)
    if gauge:
        body += _varint(14 << 3) + _varint(3)
    return _bytes(4, body + _varint(15 << 3) + _varint(time_ms))


def histogram_series(start_ms):
    draw = random.Random(3)
    out = []
    for floats in (False, True):
        for instance in ("a:1", "b:1"):
            labels = {"__name__": "sizes_float" if floats else "sizes", "instance": instance, "job": "app"}
            buckets, negative, zero, total, more = [9] * 7, [5] * 4, 100, 1e4, []
            for i in range(ROWS):
                if i == 100:                           # a reset
                    buckets, negative, zero, total = [1] * 7, [1] * 4, 5, 10.0
                if i == 150:                           # another layout
                    buckets = buckets + [0, 0]
                buckets = [b + draw.randint(0, 3) for b in buckets]
                negative = [b + draw.randint(0, 1) for b in negative]
                zero += draw.randint(0, 2)
                total += draw.randint(1, 50) / 4
                more.append(histogram(start_ms + i * STEP_MS + JITTER_MS, buckets, negative, zero, total, floats=floats,
                                      stale=i == 200 and not floats))      # which 2.42 confuses in floats
            out.append((labels, more))
    return out


def rows_of(answer):
    """{labels: {time: canonical text}}: every number as its bits."""
    out = {}
    for s in answer["data"]["result"]:
        rows = {}
        for t, v in s.get("values", []) + ([s["value"]] if "value" in s else []):
            rows[float(t)] = repr(float(v))
        for t, h in s.get("histograms", []) + ([s["histogram"]] if "histogram" in s else []):
            rows[float(t), "h"] = (float(h["count"]), float(h["sum"]),
                                   tuple((b[0], float(b[1]), float(b[2]), float(b[3])) for b in h.get("buckets", [])
                                         if float(b[3]) != 0))
        out[tuple(sorted(s["metric"].items()))] = rows
    return out


def first_difference(ours, theirs):
    for k in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(k, {}), theirs.get(k, {})
        for t in sorted(a.keys() | b.keys(), key=str):
            if a.get(t) != b.get(t):
                return f"{k} at {t}: {a.get(t)} / {b.get(t)}"
    return "of kinds"


def start_peer(world, folder, scrape):
    port = koa.free_port()
    base = f"http://127.0.0.1:{port}"
    with open(world.path("peer.yml"), "w") as f:
        f.write("global: {scrape_interval: 1s}\n")
        if scrape:
            f.write(f"scrape_configs:\n- job_name: itself\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n")
    process = world.run("peer", os.path.join(koa.PEERS, "prometheus"), f"--config.file={world.path('peer.yml')}",
                        f"--storage.tsdb.path={folder}", f"--web.listen-address=127.0.0.1:{port}",
                        "--storage.tsdb.retention.time=100y", "--web.enable-admin-api", "--web.enable-remote-write-receiver",
                        "--enable-feature=native-histograms", "--log.level=error")
    eventually("the peer", lambda: http(f"{base}/-/ready")[0] == 200)
    return base, process


def push_all(base, series, hists, start_ms):
    for row in range(0, ROWS, 40):
        some = [(labels, [(start_ms + i * STEP_MS + JITTER_MS, values[i]) for i in range(row, row + 40) if values[i] is not None])
                for labels, values in series]
        some = [s for s in some if s[1]] + [(labels, [], b"".join(more[row:row + 40])) for labels, more in hists]
        status, words = koa.push(base, some)
        check(status in (200, 204), f"push to {base}: {status} {words}")


class Both:
    """Asked alike; counts what it asked."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = Asker(ours), Asker(theirs)
        self.asked = self.answered = 0
        self.found = []

    def __call__(self, path, exact=False, **params):
        a, b = self.ours(path, **params), self.theirs(path, **params)
        self.asked += 1
        self.answered += b[0] == 200 and bool(b[1]["data"]["result"])
        if exact:
            words = None
            if a[0] != 200 or b[0] != 200 or rows_of(a[1]) != rows_of(b[1]):
                words = f"{a[0]} / {b[0]} {first_difference(rows_of(a[1]), rows_of(b[1]))}"
        else:
            words = differs(params["query"], a, b)
        if words:
            self.found.append(f"{path} {params}: {words}")

    def random(self, start, count, seed):
        grammar = Grammar(random.Random(seed))
        grammar.start, grammar.end = start, start + ROWS * STEP_MS // 1000
        for _ in range(count):
            text, draw = grammar.query(), grammar.draw
            if draw.random() < 0.5:
                self("query", query=text, time=start + draw.randint(-60, 3900))
            else:
                a = start + draw.randint(-300, 3300)
                self("query_range", query=text, start=a, end=a + draw.choice((0, 60, 600, 1800)),
                     step=draw.choice((15, 30, 60, 7, 301)))

    def verdict(self, least):
        print(f"       {self.asked} queries, {self.answered} with an answer that is not empty, {len(self.found)} differ",
              flush=True)
        check(not self.found, f"{len(self.found)} of {self.asked} differ:\n" + "\n".join(self.found[:5]))
        check(self.asked >= least and self.answered > self.asked / 3, f"{self.answered} answers of {self.asked}")


def test_what_prometheus_answers_about_its_blocks_is_answered_after_an_import(world):
    now_ms = int(time.time()) * 1000
    old_ms = (now_ms // HOUR_MS - 24 * 40) * HOUR_MS - 1_500_000     # it crosses the edge of a window
    new_ms = now_ms - ROWS * STEP_MS - 120_000
    series = series_of(random.Random(7))
    promtool_blocks(world, series, old_ms, "peer")
    peer, process = start_peer(world, world.path("peer"), scrape=True)
    hists = histogram_series(new_ms)
    push_all(peer, series, hists, new_ms)
    # Deleted, and still in the blocks: tombstones.
    for match, a, b in (('load{instance="a:1"}', old_ms + 600_000, old_ms + 900_000), ("no_labels", old_ms, old_ms + 2_000_000),
                        ('cpu_total{mode="idle"}', old_ms + 2_000_000, old_ms + 2_000_001)):
        status, _, body = http(f"{peer}/api/v1/admin/tsdb/delete_series?" + urllib.parse.urlencode(
            {"match[]": match, "start": a / 1000, "end": b / 1000}), b"", method="POST")
        check(status == 204, f"delete_series: {status} {body!r}")
    time.sleep(6)                                      # of a real scrape
    status, _, body = http(f"{peer}/api/v1/admin/tsdb/snapshot", b"", method="POST")
    check(status == 200, f"snapshot: {status} {body!r}")
    blocks = world.path("peer", "snapshots", json.loads(body)["data"]["name"])
    check(any(os.path.getsize(os.path.join(blocks, b, "tombstones")) > 9 for b in os.listdir(blocks)), "no tombstones")
    seconds = int(time.time()) - 2

    words = koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("data"), "--progress")
    check("100 %" in words and " 0 passed over" in words, words)
    check(re.search(r"[1-9]\d* deleted samples left out", words) and re.search(r"[1-9]\d* of them histograms", words), words)
    words = koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("data"))
    check("0 blocks taken" in words and "was taken before" in words, words)

    ours = koa.Serve(world)
    both = Both(ours.query, peer)
    for name in ("cpu_total", "load", "holes", "info", "odd", "short", "no_labels", "lat_bucket"):
        for start in (old_ms, new_ms):
            both("query", exact=True, query=f"{name}[90m]", time=start // 1000 + 4000)
    for name in ("sizes", "sizes_float"):
        both("query", exact=True, query=f"{name}[90m]", time=new_ms // 1000 + 4000)
        for f in ("histogram_count({})", "histogram_sum({})", "histogram_count(rate({}[2m]))", "histogram_sum(increase({}[5m]))",
                  "histogram_count(sum by (job) (rate({}[3m])))", "histogram_sum(sum({}))", "count({})", "{}"):
            both("query_range", exact=f == "{}", query=f.format(name), start=new_ms // 1000, end=new_ms // 1000 + 3600, step=37)
    for q in ("up", "scrape_samples_scraped", "prometheus_tsdb_head_series", "go_goroutines",
              'rate(prometheus_http_requests_total[5s])', "sum by (job) (scrape_duration_seconds)"):
        both("query_range", query=q, start=seconds - 6, end=seconds - 3, step=1)
    both.random(old_ms // 1000, 200, seed=11)
    both.random(new_ms // 1000, 120, seed=12)
    both.verdict(300)
    koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("data"), code=1)   # the server has it
    ours.process.stop()
    koalemos(world, "verify", world.path("data"))


def small(world, name="blocks"):
    start_ms = (int(time.time()) * 1000 // HOUR_MS - 100) * HOUR_MS
    draw = random.Random(5)
    series = [({"__name__": f"m{i % 3}", "i": str(i)}, [draw.randint(0, 10**6) / 8 for _ in range(700)]) for i in range(60)]
    return promtool_blocks(world, series, start_ms, name), start_ms


def counts(base, at):
    return koa.instant(base, "sum(count_over_time({__name__=~'m.'}[5h]))", at=at)


def test_a_corrupt_block_is_refused_with_words_or_passed_over_and_counted(world):
    blocks, start_ms = small(world)
    victim = os.path.join(blocks, sorted(os.listdir(blocks))[0])
    path = os.path.join(victim, "chunks", "000001")
    with open(path, "r+b") as f:
        f.seek(200)
        byte = f.read(1)
        f.seek(200)
        f.write(bytes([byte[0] ^ 0x40]))
    flags = ["import", "--prometheus", blocks, "--data-dir", world.path("data")]
    words = koalemos(world, *flags, code=1)
    check("chunk" in words and "checksum" in words and os.path.basename(victim) in words, words)
    words = koalemos(world, *flags, "--skip-corrupt", code=1)
    check("CORRUPT and passed over: 0 series, 1 chunks" in words, words)
    ours = koa.Serve(world)
    got = counts(ours.query, start_ms / 1000 + 4 * 3600)
    total = sum(got.values())
    check(60 * 700 - 200 < total < 60 * 700, f"{total} samples of {60 * 700}")
    ours.process.stop()
    # An index that is cut, one with a flipped byte, one that is none.
    index = os.path.join(victim, "index")
    whole = open(index, "rb").read()
    for n, bad in enumerate((whole[:-60], whole[:len(whole) // 2], b"\0" * 100, whole[:40] + b"\xff" + whole[41:], b"")):
        with open(index, "wb") as f:
            f.write(bad)
        words = koalemos(world, "import", "--prometheus", victim, "--data-dir", world.path(f"data-{n}"), code=1)
        check("index" in words and "block" in words, words)
    with open(os.path.join(victim, "meta.json"), "w") as f:
        f.write('{"ulid": "../../etc/passwd"}')
    words = koalemos(world, "import", "--prometheus", victim, "--data-dir", world.path("data-x"), code=1)
    check("meta.json" in words, words)
    words = koalemos(world, "import", "--prometheus", world.path("nowhere"), "--data-dir", world.path("data-x"), code=1)
    check("nowhere" in words, words)


def test_an_import_that_is_killed_goes_on_and_takes_nothing_twice(world):
    blocks, start_ms = small(world)
    draw = random.Random(9)
    for round_ in range(12):
        p = subprocess.Popen([os.path.join(koa.BIN, "koalemos"), "import", "--prometheus", blocks, "--data-dir",
                              world.path("data")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.02 + draw.random() * 0.15)
        p.kill()
        p.wait()
    words = koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("data"))
    check(not [n for n in os.listdir(world.path("data", "import")) if n.startswith("progress")], "progress is left")
    words = koalemos(world, "verify", world.path("data"))
    check(" 0 bad" in words and "0 in no catalogue" in words, words)
    ours = koa.Serve(world)
    got = counts(ours.query, start_ms / 1000 + 4 * 3600)
    check(sum(got.values()) == 60 * 700, f"{got}")
    stored = sum(b["stats"]["numSamples"] for b in koa.api(ours.query, "status/tsdb/blocks")["blocks"])
    check(stored == 60 * 700, f"{stored} samples in filesets")


def test_an_import_that_goes_on_with_other_windows_leaves_nothing_out(world):
    blocks, start_ms = small(world)
    victim = os.path.join(blocks, sorted(os.listdir(blocks))[0], "chunks", "000001")
    with open(victim, "rb") as f:
        good = f.read()
    with open(victim, "wb") as f:                      # the end of the last series: it comes to that late
        f.write(good[:-6] + bytes([good[-6] ^ 1]) + good[-5:])
    words = koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("data"), "--ingestor.window", "1h", code=1)
    check("checksum" in words, words)
    check(any(n.startswith("progress-") for n in os.listdir(world.path("data", "import"))), "nothing was done before it")
    with open(victim, "wb") as f:
        f.write(good)
    words = koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("data"))
    check("begins anew" in words and "2 blocks taken" in words, words)
    ours = koa.Serve(world)
    got = counts(ours.query, start_ms / 1000 + 4 * 3600)
    check(sum(got.values()) == 60 * 700, f"{got}")


def test_labels_of_thanos_are_added_and_its_downsampled_and_marked_blocks_passed_over(world):
    blocks, start_ms = small(world)
    names = sorted(os.listdir(blocks))

    def change(name, thanos):
        path = os.path.join(blocks, name, "meta.json")
        with open(path) as f:
            meta = json.load(f)
        meta["thanos"] = thanos
        with open(path, "w") as f:
            json.dump(meta, f)
    for name in names:
        change(name, {"labels": {"aaa": "1", "region": "\u00e4-\"q\"", "i": "not this", "__org__": "x"},
                      "downsample": {"resolution": 0}})
    shutil.copytree(os.path.join(blocks, names[0]), os.path.join(blocks, "01ARZ3NDEKTSV4RRFFQ69G5FAV"))
    with open(os.path.join(blocks, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "deletion-mark.json"), "w") as f:
        f.write("{}")
    shutil.copytree(os.path.join(blocks, names[0]), os.path.join(blocks, "01ARZ3NDEKTSV4RRFFQ69G5FAW"))
    change("01ARZ3NDEKTSV4RRFFQ69G5FAW", {"labels": {}, "downsample": {"resolution": 300000}})
    words = koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("data"), "--tenant", "team-a")
    check("2 passed over" in words and "downsampled" in words and
          "01ARZ3NDEKTSV4RRFFQ69G5FAV: it is marked for deletion" in words, words)
    ours = koa.Serve(world)
    found = koa.api(ours.query, "series", tenant="team-a", match='{__name__=~"m."}', start=start_ms / 1000,
                    end=start_ms / 1000 + 12000)
    check(len(found) == 60 and all(s["aaa"] == "1" and s["region"] == "\u00e4-\"q\"" and s["i"] != "not this" and
                                   "__org__" not in s for s in found), f"{len(found)} {found[:1]}")
    check(koa.api(ours.query, "series", match='{__name__=~"m."}', start=start_ms / 1000, end=start_ms / 1000 + 12000) == [],
          "another tenant sees it")


def test_an_import_beside_a_running_cluster_is_answered_at_once_and_its_owners_go_on(world):
    blocks, start_ms = small(world)
    cell = koa.Cluster(world)
    now_ms = int(time.time()) * 1000
    at = start_ms / 1000 + 4 * 3600

    def push(i):
        status, words = koa.push(cell.push, [({"__name__": f"m{k % 3}", "i": f"new-{k}"}, [(now_ms + i, i)]) for k in range(60)])
        check(status == 204, f"{status} {words}")
    push(0)
    cell.flush_all()                                   # the owners have a manifest of their own in hand
    words = koalemos(world, "import", "--prometheus", blocks, "--config", world.path("cluster.yaml"), "--store.dir",
                     world.path("store"), "--work-dir", world.path("work"))
    check("2 blocks taken" in words, words)
    eventually("the import is answered", lambda: sum(counts(cell.query, at).values()) == 60 * 700)
    push(1)
    cell.flush_all()                                   # they lose a compare-and-set, and build upon what is there
    check(sum(counts(cell.query, at).values()) == 60 * 700, "a flush lost what was imported")
    got = koa.one(cell.query, 'sum(count_over_time({__name__=~"m.",i=~"new-.*"}[1h]))', at=now_ms / 1000 + 60)
    check(got == 120, f"{got} of 120 pushed samples")
    for p in cell.processes[1:]:
        check("ALARM" not in p.words(), p.words()[-1000:])


def test_blocks_in_a_bucket_are_imported_from_there(world):
    import koa_s3
    blocks, start_ms = small(world)
    s3 = koa_s3.S3(world)
    for folder, _, files in os.walk(blocks):
        for f in files:
            path = os.path.join(folder, f)
            s3.put("tenant-7/" + os.path.relpath(path, blocks), open(path, "rb").read())
    flags = s3.flags()[2:]                             # how it is reached, not where our own objects go
    words = koalemos(world, "import", "--prometheus", f"s3://{s3.bucket}/{s3.prefix}/tenant-7/", "--data-dir", world.path("data"),
                     *flags)
    check("2 blocks taken" in words and "42000 samples" in words, words)
    check(os.listdir(world.path("data", "import")) in (["filesets"], ["LOCK", "filesets"], ["filesets", "LOCK"]),
          f"left: {os.listdir(world.path('data', 'import'))}")
    ours = koa.Serve(world)
    check(sum(counts(ours.query, start_ms / 1000 + 4 * 3600).values()) == 42000, "samples are missing")
    for elsewhere in "nothing", "":                    # "": tenants are below, whose blocks are not one tenant's
        words = koalemos(world, "import", "--prometheus", f"s3://{s3.bucket}/{s3.prefix}/{elsewhere}", "--data-dir",
                         world.path("data-2"), *flags, code=1)
        check("no block" in words, words)


CRC = [0] * 256
for n in range(256):
    c = n
    for _ in range(8):
        c = c >> 1 ^ 0x82f63b78 * (c & 1)
    CRC[n] = c


def crc32c(bytes_):
    c = 0xffffffff
    for b in bytes_:
        c = c >> 8 ^ CRC[(c ^ b) & 255]
    return struct.pack(">I", c ^ 0xffffffff)


def uvarint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


class Bytes:
    def __init__(self, bytes_, at):
        self.bytes, self.at = bytes_, at

    def uvarint(self):
        n = shift = 0
        while True:
            b = self.bytes[self.at]
            self.at += 1
            n |= (b & 127) << shift
            shift += 7
            if b < 128:
                return n

    def be32(self):
        self.at += 4
        return struct.unpack_from(">I", self.bytes, self.at - 4)[0]

    def text(self):
        n = self.uvarint()
        self.at += n
        return self.bytes[self.at - n:self.at]


def section(content):
    return struct.pack(">I", len(content)) + content + crc32c(content)


def index_of_version_1(old):
    """What Prometheus wrote before 2.1: symbols are named by where they lie in the file, series are not aligned, and
    named by where they lie, too."""
    symbols_at, series_at, label_at, _, _, table_at = struct.unpack(">6Q", old[-52:-4])
    r = Bytes(old, symbols_at + 4)
    texts = [r.text() for _ in range(r.be32())]
    out, where = bytearray(b"\xba\xaa\xd7\x00\x01"), []
    content = bytearray(struct.pack(">I", len(texts)))
    for t in texts:
        where.append(len(out) + 4 + len(content))
        content += uvarint(len(t)) + t
    out += section(bytes(content))
    new_series = len(out)
    refs, r = {}, Bytes(old, series_at)
    while r.at < label_at:
        r.at += -r.at % 16
        if r.at >= label_at:
            break
        ref, size = r.at // 16, r.uvarint()
        end = r.at + size
        content = uvarint(labels := r.uvarint()) + b"".join(uvarint(where[r.uvarint()]) for _ in range(2 * labels)) + old[r.at:end]
        refs[ref] = len(out)
        out += uvarint(len(content)) + content + crc32c(content)
        r.at = end + 4
    label_indices = len(out)
    out += section(struct.pack(">II", 1, 0))
    label_table = len(out)
    out += section(struct.pack(">I", 0))
    postings, table, r = len(out), bytearray(), Bytes(old, table_at + 4)
    entries = r.be32()
    for _ in range(entries):
        check(r.uvarint() == 2, "a postings' table that is none")
        name, value, at = r.text(), r.text(), r.uvarint()
        p = Bytes(old, at + 4)
        table += b"\x02" + uvarint(len(name)) + name + uvarint(len(value)) + value + uvarint(len(out))
        n = p.be32()
        out += section(struct.pack(f">I{n}I", n, *(refs[p.be32()] for _ in range(n))))
    new_table = len(out)
    out += section(struct.pack(">I", entries) + bytes(table))
    toc = struct.pack(">6Q", 5, new_series, label_indices, label_table, postings, new_table)
    return bytes(out) + toc + crc32c(toc)


def test_blocks_with_an_index_of_version_1_are_taken_as_those_of_version_2(world):
    blocks, start_ms = small(world)
    dumps = []
    os.makedirs(os.path.join(blocks, "wal"))           # promtool wants one
    for version in (2, 1):
        for block in [b for b in os.listdir(blocks) if len(b) == 26] if version == 1 else ():
            path = os.path.join(blocks, block, "index")
            with open(path, "rb") as f:
                old = f.read()
            with open(path, "wb") as f:
                f.write(index_of_version_1(old))
        done = subprocess.run([os.path.join(koa.PEERS, "promtool"), "tsdb", "dump", blocks], capture_output=True, text=True)
        check(done.returncode == 0, done.stderr)       # Prometheus reads what we made
        dumps.append(sorted(done.stdout.splitlines()))
    check(len(dumps[0]) == 60 * 700 and dumps[0] == dumps[1], "what was made of it is not what it was")
    words = koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("data"))
    check("2 blocks taken" in words and "42000 samples" in words, words)
    ours = koa.Serve(world)
    _, answer = Asker(ours.query)("query", query="{__name__=~'m.'}[5h]", time=start_ms // 1000 + 4 * 3600)
    got = {(s["metric"]["__name__"], s["metric"]["i"], round(t * 1000), float(v)) for s in answer["data"]["result"] for t, v in s["values"]}
    want = {(m[1], m[2], int(m[4]), float(m[3])) for m in (re.match(r'\{__name__="(\w+)", i="(\d+)"\} (\S+) (\d+)', line) for line in dumps[0])}
    check(len(want) == 42000 and got == want, f"{len(got)} of {len(want)}; {sorted(got ^ want)[:4]}")


def test_what_was_deleted_before_an_import_is_there_after_it_and_may_be_deleted_again(world):
    blocks, start_ms = small(world)
    at = start_ms / 1000 + 4 * 3600
    ours = koa.Serve(world)

    def delete():
        status, _, body = http(f"{ours.push}/api/v1/admin/tsdb/delete_series?" + urllib.parse.urlencode(
            {"match[]": '{__name__=~"m."}', "start": start_ms / 1000 - 7200, "end": at}), b"", method="POST")
        check(status in (200, 202, 204), f"delete_series: {status} {body!r}")

    def count():
        return sum(counts(ours.query, at).values())
    status, words = koa.push(ours.push, [({"__name__": "m0", "i": "0"}, [(int(time.time() * 1000), 7.0)])])
    check(status == 204, words)
    delete()
    ours.flush_all()
    ours.process.stop()
    koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("data"))
    ours.process.start()
    ours.ready()
    check(count() == 60 * 700, "an older deletion hides what was imported")
    delete()
    eventually("deleted", lambda: count() == 0)
    ours.flush_all()
    check(count() == 0, "it came back")


def test_an_import_beside_a_running_serve_is_answered_at_once_and_it_goes_on(world):
    blocks, start_ms = small(world)
    at = start_ms / 1000 + 4 * 3600
    ours = koa.Serve(world)
    now_ms = int(time.time() * 1000)

    def push(i):
        status, words = koa.push(ours.push, [({"__name__": f"m{k % 3}", "i": f"new-{k}"}, [(now_ms + i, i)]) for k in range(60)])
        check(status == 204, f"{status} {words}")
    push(0)
    ours.flush_all()
    def day():
        return [koa.api(ours.query, "query_range", query=q, start=start_ms / 1000 - 90000, end=at, step=60)["result"]
                for q in ("sum(m0)", "count({__name__=~'m.'})") for _ in (0, 1, 2)]       # twice it may be kept
    check(not any(day()), "before the import")
    words = koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("data"), "--server", ours.push)
    check("2 blocks taken" in words, words)
    eventually("the import is answered", lambda: sum(counts(ours.query, at).values()) == 60 * 700)
    check(all(len(r) == 1 and len(r[0]["values"]) > 170 for r in day()), f"kept answers are not of now: {str(day())[:300]}")
    push(1)
    ours.flush_all()
    check(sum(counts(ours.query, at).values()) == 60 * 700, "a flush lost what was imported")
    got = koa.one(ours.query, 'sum(count_over_time({__name__=~"m.",i=~"new-.*"}[1h]))', at=now_ms / 1000 + 60)
    check(got == 120, f"{got} of 120 pushed samples")
    ours.process.stop()
    ours.process.start()
    ours.ready()
    check(sum(counts(ours.query, at).values()) == 60 * 700, "a start lost what was imported")
    check("ALARM" not in ours.process.words(), ours.process.words()[-1000:])
    # Only what is the catalogue's may be asked for, and only as it should be.
    os.makedirs(world.path("other"))
    words = koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("other"), "--server", ours.push, "--again",
                     code=1)
    check("used by no server" in words, words)
    for form, want in ({}, 400), ({"key": "lease.0001"}, 400), ({"key": "catalogue.0001x"}, 400), ({"log": "16"}, 400), \
            ({"log": "-1"}, 400), ({"log": "3"}, 200), ({"key": "placement"}, 200), ({"key": "catalogue.9999"}, 404), \
            ({"key": "placement", "expect": "0", "value": "00"}, 400), ({"key": "catalogue.0001", "expect": "1", "value": "0g"}, 400), \
            ({"key": "catalogue.0001", "value": "00"}, 400), ({"key": "catalogue.0001", "expect": "1", "value": "00" * 5000}, 400), \
            ({"key": "catalogue.0001", "expect": "1", "value": "00"}, 400):
        status, _, body = http(f"{ours.push}/api/v1/koalemos/catalogue", urllib.parse.urlencode(form).encode(),
                               {"Content-Type": "application/x-www-form-urlencoded"})
        check(status == want, f"{form}: {status} {body[:200]!r}")
