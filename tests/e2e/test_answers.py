"""How answers travel: large ones as they are read, packed as the client likes, and never twice in memory."""
import gzip
import json
import socket
import subprocess
import time
from urllib.parse import quote, urlencode

import koa
from koa import api, check, http, push

MIB = 1 << 20


def load(base, series):
    now = int(time.time()) * 1000
    status, words = push(base, [({"__name__": "wide", "n": str(n)}, [(now - i * 360_000, n + i / 7) for i in range(31, -1, -1)])
                                for n in range(series)])
    check(status == 204, f"push: {status} {words}")
    return now // 1000


def test_an_answer_of_100_mb_is_streamed_and_does_not_sit_in_memory_twice(world):
    ours = koa.Serve(world)
    end = load(ours.push, 270)
    params = dict(query="wide / 3", start=end - 10_999, end=end, step=1, lookback_delta="3h")
    # What the evaluation alone needs.
    plan = api(ours.query, "query_explain", **params)
    check(plan["result"]["series"] == 270, f"{plan['result']}")
    evaluated = ours.process.peak_bytes()
    with socket.create_connection(("127.0.0.1", ours.port)) as s:
        s.sendall(f"GET /api/v1/query_range?{urlencode(params)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        size, head = 0, b""
        while data := s.recv(1 << 20):
            if size < 1000:
                head += data
            size += len(data)
        check(head.startswith(b"HTTP/1.1 200") and b"ransfer-" in head[:500], f"{head[:300]!r}")
    check(size > 90 * MIB, f"{size} bytes")
    grown = ours.process.peak_bytes() - evaluated
    check(grown < size / 4, f"the answer of {size >> 20} MiB took {grown >> 20} MiB more than its evaluation")


def test_a_client_that_reads_slowly_holds_up_nobody(world):
    ours = koa.Serve(world)
    end = load(ours.push, 100)
    query = urlencode(dict(query="wide", start=end - 10_000, end=end, step=1, lookback_delta="3h"))
    slow = [socket.create_connection(("127.0.0.1", ours.port)) for _ in range(30)]
    for s in slow:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(f"GET /api/v1/query_range?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    for s in slow:
        check(s.recv(12) in (b"HTTP/1.1 200", b"HTTP/1.1 503"), "the answer begins, or is refused")
    for _ in range(20):
        begin = time.monotonic()
        check(koa.one(ours.query, "count(wide)") == 100, "another query")
        check(time.monotonic() - begin < 5, "another query waits for those who read slowly")
    for s in slow:
        s.close()


def test_answers_are_packed_as_the_client_likes(world):
    ours = koa.Serve(world)
    end = load(ours.push, 60)
    for steps in (10, 3000):                           # whole, and streamed
        url = f"{ours.query}/api/v1/query_range?query={quote('wide')}&start={end - steps}&end={end}&step=1&lookback_delta=1h"
        plain = http(url)[2]
        status, headers, packed = http(url, headers={"Accept-Encoding": "gzip"})
        check(status == 200 and headers["Content-Encoding"] == "gzip", f"gzip, {steps}: {headers}")
        check(gzip.decompress(packed) == plain and len(packed) < len(plain), f"gzip of {steps} steps")
        status, headers, packed = http(url, headers={"Accept-Encoding": "gzip, deflate, br, zstd"})
        check(status == 200 and headers["Content-Encoding"] == "zstd", f"zstd, {steps}: {headers}")
        check(subprocess.run(["zstd", "-d"], input=packed, capture_output=True, check=True).stdout == plain, f"zstd of {steps} steps")
        check(http(url, headers={"Accept-Encoding": "identity"})[1]["Content-Encoding"] is None, "identity")
        check(json.loads(plain)["status"] == "success", "success")
