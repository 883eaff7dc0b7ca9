"""What is wrong is refused with a status and words; the valid rest of a payload is stored."""
import gzip
import json
import socket
import struct
import time

import koa
from koa import RW1, api, check, http, rw1_series, snappy


def post(ours, body, headers=None, path="/api/v1/write"):
    status, answer_headers, answer = http(f"{ours.push}{path}", body, {**RW1, **(headers or {})})
    return status, answer.decode(errors="replace"), answer_headers


def announced(ours, size):
    """The status line of the answer to a body that is announced and not sent."""
    with socket.create_connection(("127.0.0.1", ours.port), 10) as s:
        s.sendall(b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"
                  b"Content-Encoding: snappy\r\nContent-Length: %d\r\n\r\n" % size)
        return s.recv(4096).split(b"\r\n")[0]


def test_a_payload_with_bad_series_stores_the_good_and_names_the_bad(world):
    ours = koa.Serve(world)
    now = int(time.time() * 1000)
    good = [({"__name__": "good", "n": str(n)}, [(now, float(n))]) for n in range(10)]
    bad = [
        ([("__name__", "dup"), ("a", "1"), ("a", "2")], [(now, 1.0)]),
        ([("b", "1"), ("a", "2"), ("__name__", "unsorted")], [(now, 1.0)]),
        ([("", "x"), ("__name__", "emptyname")], [(now, 1.0)]),
        ([("__name__", "badutf8"), ("a", b"\xff\xfe")], [(now, 1.0)]),
        ([("a", "nameless")], [(now, 1.0)]),
        ([("__name__", "future")], [(now + 10 * 86400_000, 1.0)]),
        ([("__name__", "toolong"), ("a", "x" * 100_000)], [(now, 1.0)]),
        ([("__name__", "toomany")] + [(f"l{n:04}", "v") for n in range(300)], [(now, 1.0)]),
    ]
    mixed = []
    for n, b in enumerate(bad):
        mixed += [good[n], b]
    status, words = koa.push(ours.push, mixed + good[len(bad):])
    check(status == 400, f"{status} {words}")
    for name in ("dup", "unsorted", "badutf8", "future"):
        check(name in words or words.count("\n") > 0, f"the answer should name offenders: {words}")
    got = koa.instant(ours.query, '{__name__=~".+"}')
    check(len(got) == 10 and {k[0][1] for k in got} == {"good"}, f"stored: {sorted(got)}")
    metrics = http(f"{ours.push}/metrics")[2].decode()
    check('koalemos_doorman_refused_total{reason="duplicate_label"} 1' in metrics, "the refusals are not counted")


def test_broken_bodies_get_the_right_status_and_the_server_lives(world):
    ours = koa.Serve(world)
    now = int(time.time() * 1000)
    message = rw1_series({"__name__": "x"}, [(now, 1.0)])
    whole = snappy(message)
    cases = {
        "not snappy": (b"\xff" * 50, 400),
        "cut snappy": (whole[:-3], 400),
        "empty": (b"", 400),
        "not protobuf": (snappy(b"\xff" * 60), 400),
        "cut protobuf": (snappy(message[:-4]), 400),
        "length past the end": (snappy(b"\x0a\xff\xff\xff\xff\x0f"), 400),
        "declared 4 GiB": (b"\xff\xff\xff\xff\x0f" + whole[1:], 413),
    }
    for name, (body, want) in cases.items():
        status, words, _ = post(ours, body)
        check(status == want and words.strip(), f"{name}: {status} {words!r}, wanted {want}")
    check(post(ours, whole, {"Content-Type": "text/html"})[0] == 415, "text/html")
    check(post(ours, whole, {"Content-Encoding": "br"})[0] == 415, "Content-Encoding br")
    check(b" 413 " in announced(ours, 40 << 20), "a body announced as 40 MiB")
    for tenant in ("..", "a*b", "a>b", "a b", "x" * 200, "a/b"):
        check(post(ours, whole, {"X-Scope-OrgID": tenant})[0] == 400, f"tenant {tenant[:20]!r}")
    check(post(ours, whole)[0] == 204, "a good one after all that")
    check(ours.process.alive(), "the server died")


def test_text_exposition_is_taken_plain_and_gzipped_and_bad_lines_are_named(world):
    ours = koa.Serve(world)
    text = b'# TYPE t gauge\nt{a="1"} 42\nt{a="2"} NaN\n'
    send = lambda body, **h: http(f"{ours.push}/api/v1/import/prometheus", body,
                                  {"Content-Type": "text/plain", **h})
    check(send(text)[0] == 204, "plain")
    check(send(gzip.compress(b't{a="3"} 7\n'), **{"Content-Encoding": "gzip"})[0] == 204, "gzip")
    check(send(gzip.compress(b"\0" * (300 << 20)), **{"Content-Encoding": "gzip"})[0] == 413, "a gzip bomb")
    form = {"Content-Type": "application/x-www-form-urlencoded"}      # as curl says of all that it posts
    check(send(b't{a="%zz&=&&"} 7\n', **form)[0] == 204, "text that is no form, called one")
    status, _, words = send(b't{a="4"} 1\nthis is { no metric\nt{a="5"} 2\n')
    check(status == 400 and b"2" in words, f"a bad line: {status} {words!r}")
    got = koa.instant(ours.query, "t")
    check(sorted(dict(k)["a"] for k in got) == ["%zz&=&&", "1", "2", "3", "4", "5"], f"stored: {sorted(got)}")


def test_bad_queries_are_answered_400_with_a_position(world):
    ours = koa.Serve(world)

    def ask(path, **params):
        from urllib.parse import urlencode
        status, _, body = http(f"{ours.query}/api/v1/{path}", urlencode(params).encode(),
                               {"Content-Type": "application/x-www-form-urlencoded"})
        answer = json.loads(body)
        check(answer["status"] == "error" and answer["error"], f"{path} {params}: {body[:300]}")
        return status, answer["errorType"], answer["error"]
    status, kind, words = ask("query", query="sum(rate(x[5m])")
    check((status, kind) == (400, "bad_data") and "1:" in words, f"{status} {kind} {words}")
    check(ask("query", query="rate(x)")[0] == 400, "a type error")
    check(ask("query")[0] == 400, "no query")
    check(ask("query", query="x", time="yesterday")[0] == 400, "a bad time")
    check(ask("query_range", query="x", start=10, end=5, step=1)[0] == 400, "end before start")
    check(ask("query_range", query="x", start=0, end=1e9, step=1)[0] == 400, "too many points")
    check(ask("query_range", query="x", start=0, end=10, step=0)[0] == 400, "step 0")
    check(ask("series")[0] == 400, "series without match[]")
    check(ask("query", query="(" * 100_000)[0] == 400, "deep nesting")
    check(koa.instant(ours.query, "1 + 1", unknown_parameter="x") == 2.0, "an unknown parameter is ignored")
    check(http(f"{ours.query}/api/v1/nothing")[0] == 404, "an unknown path")


def test_extreme_values_and_times_come_back_bit_for_bit(world):
    ours = koa.Serve(world)
    now = int(time.time() * 1000) // 1000 * 1000
    bits = [0x0000000000000001, 0x8000000000000000, 0x7ff0000000000000, 0xfff0000000000000, 0x7fefffffffffffff,
            0x3ff0000000000001, 0x4340000000000001, 0xc08f400000000000]
    values = [struct.unpack("<d", struct.pack("<Q", b))[0] for b in bits]
    check(koa.push(ours.push, [({"__name__": "v"}, [(now - 1000 * i, v) for i, v in reversed(list(enumerate(values)))])])[0] == 204, "push")
    for _ in range(2):
        got = api(ours.query, "query", query="v[1m]", time=now / 1000)["result"][0]["values"]
        back = [struct.unpack("<Q", struct.pack("<d", float(v)))[0] for _, v in reversed(got)]
        check(back == bits, f"{[hex(b) for b in back]}")
        ours.flush_all()
