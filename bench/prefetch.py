#!/usr/bin/env python3
"""A dashboard that repeats, over an object storage that is far away: its first refresh after a flush and after a merge.

    bench/prefetch.py --bin build/release/bin [--latency 0.05] [--series 50] [--hours 14]

A stand-in for an S3 service in this process answers each request after --latency seconds. `koalemos serve` takes 24
metrics x --series series, a sample a minute, and flushes each two hours of them by itself; twelve panels over --hours are
asked again and again, each time a step further. Asked five seconds after the flush of two more hours, and five seconds
after all of it was merged. Once with reading ahead off, once with it on. One line each: seconds that the panels took, one
after another; requests that the storage answered meanwhile; and what was read ahead, used and wasted in all.
"""
import argparse
import http.server
import os
import re
import sys
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import koa  # noqa: E402

STEP, HOUR = 60_000, 3_600_000
PANELS = ["sum(rate(far_0_total[5m]))", "max by (host) (far_1)", "avg(far_2)", "topk(3, far_3)", "quantile(0.9, far_4)",
          "count(far_5)", "min(far_6)", "avg_over_time(far_7[1h])", "far_8{host='h2'}", "rate(far_9_total[10m])",
          "sum(far_10)", "max(far_11) - min(far_12)"]


class FarStore(http.server.ThreadingHTTPServer):
    """As much of S3 as one writer needs: put if absent, ranged get, head, list, delete. Signatures are not looked at."""
    daemon_threads = True

    def __init__(self, latency):
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects, self.latency, self.requests = {}, latency, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b"", size=None, **headers):
        self.server.requests += 1
        time.sleep(self.server.latency)
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass

    def key(self):
        return urllib.parse.unquote(self.path.partition("?")[0]).split("/", 2)[-1]

    def missing(self):
        self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_PUT(self):
        body, all = self.rfile.read(int(self.headers["Content-Length"])), self.server.objects
        if self.key() in all and self.headers.get("If-None-Match") == "*":
            return self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        meta = {k: v for k, v in self.headers.items() if k.lower().startswith("x-amz-meta-")}
        all[self.key()] = body, meta
        self.answer(200, ETag='"1"')

    def do_HEAD(self):
        found = self.server.objects.get(self.key())
        if found is None:
            return self.missing()
        self.answer(200, size=len(found[0]), ETag='"1"', **found[1])

    def do_DELETE(self):
        self.server.objects.pop(self.key(), None)
        self.answer(204)

    def do_GET(self):
        if "?" in self.path:
            return self.list()
        found = self.server.objects.get(self.key())
        if found is None:
            return self.missing()
        body, part = found[0], re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not part:
            return self.answer(200, body, ETag='"1"')
        first, last = int(part[1]), min(int(part[2]), len(body) - 1)
        self.answer(206, body[first:last + 1], ETag='"1"', Content_Range=f"bytes {first}-{last}/{len(body)}")

    def list(self):
        q = urllib.parse.parse_qs(self.path.partition("?")[2])
        keys = sorted(k for k in list(self.server.objects) if k.startswith(q.get("prefix", [""])[0]))
        self.answer(200, ("<ListBucketResult><IsTruncated>false</IsTruncated>" + "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{len(self.server.objects[k][0])}</Size></Contents>" for k in keys)
            + "</ListBucketResult>").encode())


class Dashboard:
    def __init__(self, ours, far, hours, end):
        self.ours, self.far, self.length, self.end = ours, far, hours * HOUR, end

    def refresh(self):
        """Seconds, and requests that the storage answered."""
        self.end += STEP
        before, at = self.far.requests, time.monotonic()
        for panel in PANELS:
            got = koa.api(self.ours.query, "query_range", query=panel, start=(self.end - self.length) / 1000,
                          end=self.end / 1000, step=STEP / 1000)
            koa.check(got["result"], f"{panel}: nothing")
        return time.monotonic() - at, self.far.requests - before


def load(ours, begin, end, series):
    for n in range(24):
        name = f"far_{n}_total" if n in (0, 9) else f"far_{n}"
        times = range(begin, end, STEP)
        status, words = koa.push(ours.push, [({"__name__": name, "host": f"h{s}"},
                                              [(t, (t // STEP * 7919 + n * 31 + s) * 2654435761 % 2**32 // 65536)
                                               for t in times]) for s in range(series)])
        koa.check(status == 204, f"push: {status} {words}")


def one(world, args, limit):
    far = FarStore(args.latency)
    for name in ("access", "secret"):
        with open(world.path(name), "w") as f:
            f.write("key\n")
    ours = koa.Serve(world, "--store.url", "s3://bench/far", "--store.s3.endpoint", f"http://127.0.0.1:{far.server_port}",
                     "--store.s3.access_key.file", world.path("access"), "--store.s3.secret_key.file",
                     world.path("secret"), "--store.s3.conditional_put", "on", "--ingestor.window", "24h", "--limits.past", "0", "--compaction.files", "8",
                     "--ingestor.cut_delay", "24h", "--querier.prefetch_max", limit)
    begin = int(time.time()) // 86400 * 24 * HOUR - 24 * HOUR
    for i in range(6):
        load(ours, begin + 2 * i * HOUR, begin + 2 * (i + 1) * HOUR, args.series)
        ours.flush_all()
    board = Dashboard(ours, far, args.hours, begin + 12 * HOUR)
    first = board.refresh()
    for _ in range(3):
        time.sleep(1)
        steady = board.refresh()
    for after in ("flush", "merge"):
        merges = koa.metric(ours.query, "koalemos_ingestor_compactions_total")
        load(ours, begin + (12 if after == "flush" else 14) * HOUR, begin + (14 if after == "flush" else 16) * HOUR, args.series)
        board.end += 2 * HOUR
        board.refresh()
        ours.flush_all()
        if after == "merge":
            koa.eventually("merges", lambda: koa.metric(ours.query, "koalemos_ingestor_compactions_total") > merges, 180)
            last = -1
            while last != (last := koa.metric(ours.query, "koalemos_ingestor_compactions_total")):
                time.sleep(5)
        time.sleep(5)
        took, asked = board.refresh()
        print(f"prefetch_max {limit:>5}, after a {after}: {took:6.2f} s, {asked:4} requests   (cold {first[0]:.2f} s, steady "
              f"{steady[0]:.2f} s; read ahead {koa.metric(ours.query, 'koalemos_querier_prefetch_bytes_total') / 1024:.0f} KiB,"
              f" used {koa.metric(ours.query, 'koalemos_querier_prefetch_used_bytes_total') / 1024:.0f}, wasted "
              f"{koa.metric(ours.query, 'koalemos_querier_prefetch_wasted_bytes_total') / 1024:.0f})", flush=True)
    ours.process.stop()
    far.shutdown()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", required=True)
    p.add_argument("--latency", type=float, default=0.05)
    p.add_argument("--series", type=int, default=50)
    p.add_argument("--hours", type=int, default=14)
    args = p.parse_args()
    koa.BIN = os.path.abspath(args.bin)
    for limit in ("0", "64MiB"):
        with koa.World() as world:
            one(world, args, limit)


if __name__ == "__main__":
    main()
