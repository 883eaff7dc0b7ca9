"""What is wrong is refused with a status and words; the valid rest of a payload is stored."""
import gzip
import json
import re
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


MIXED = """
limits: {label_count_max: 20, name_bytes_max: 100, value_bytes_max: 32KiB, series_max: 8, samples_per_push_max: 70}
ha: {enabled: true, clusters_max: 1}
"""
# What each reason is called in the answer.
WORDS = {
    "no_name": "without a metric name", "unsorted_labels": "with label names out of order",
    "duplicate_label": "with a label name given twice", "empty_label_name": "with an empty label name",
    "invalid_utf8": "with a label that is not UTF-8", "malformed_labels": "with malformed labels",
    "too_many_labels": "with more labels than limits.label_count_max",
    "long_label_name": "with a label name longer than limits.name_bytes_max",
    "long_label_value": "with a label value longer than limits.value_bytes_max",
    "large_label_set": "with too large a label set", "too_old": "older than limits.past",
    "too_new": "newer than limits.future", "too_many_series": "of series beyond limits.series_max",
    "too_many_samples": "beyond limits.samples_per_push_max",
    "too_many_clusters": "of HA clusters beyond ha.clusters_max", "invalid_histogram": "with an invalid histogram",
    "invalid_exemplar": "with an invalid exemplar", "invalid_metadata": "metadata that is no metric's",
    "bad_line": "on a line that does not parse", "broken_message": "beyond the point where the message breaks off",
}
DAY = 86400_000


def kinds(now):
    """(reason or "" for a good one, label pairs, [(ms, value)...], [exemplar labels...], histograms without sense)
    in the order in which they are sent. Two of each kind, so that the counts are more than "some"."""
    name = lambda n: ("__name__", n)
    out = [("", [name("good_a")], [(now, 1.0)], [], 0)]
    for n in ("1", "2"):
        out += [
            ("no_name", [("a", "nameless" + n)], [(now, 1.0)], [], 0),
            ("unsorted_labels", [name("unsorted" + n), ("b", "1"), ("a", "2")], [(now, 1.0), (now + 1, 1.0)], [], 0),
            ("duplicate_label", [name("twice" + n), ("a", "1"), ("a", "2")], [(now, 1.0)], [], 0),
            ("empty_label_name", [("", "x"), name("unnamed" + n)], [(now, 1.0)], [], 0),
            ("invalid_utf8", [name("garbled" + n), ("a", b"\xff\xfe")], [(now, 1.0)], [], 0),
            ("too_many_labels", [name("crowd" + n)] + [(f"l{i:04}", "v") for i in range(25)], [(now, 1.0)], [], 0),
            ("too_many_labels", [name("throng" + n)] + [(f"l{i:04}", "v") for i in range(300)], [(now, 1.0)], [], 0),
            ("long_label_name", [name("longname" + n), ("n" * 101, "v")], [(now, 1.0)], [], 0),
            ("long_label_value", [name("longvalue" + n), ("v", "x" * 32_769)], [(now, 1.0)], [], 0),
            ("large_label_set", [name("vast" + n)] + [(f"v{i}", "x" * 30_000) for i in range(3)], [(now, 1.0)], [], 0),
        ]
    out += [
        ("too_old", [name("old")], [(now - 40 * DAY, 1.0), (now - 50 * DAY, 1.0)], [], 0),
        ("too_new", [name("new")], [(now + DAY, 1.0)], [], 0),
        ("", [name("good_b"), ("a", "1")], [(now - 1, 2.0), (now, 3.0)], [], 0),
        ("invalid_exemplar", [name("good_c")], [(now, 4.0)], [[("trace", b"\xff")]], 0),
        ("invalid_histogram", [name("good_d")], [(now, 5.0)], [], 1),
        ("", [name("good_e"), ("__replica__", "r1"), ("cluster", "one")], [(now, 6.0)], [], 0),
        ("too_many_clusters", [name("second"), ("__replica__", "r1"), ("cluster", "two")], [(now, 7.0)], [], 0),
        ("", [name("good_f")], [(now, 8.0)], [], 0),
        ("too_many_series", [name("ninth")], [(now, 9.0)], [], 0),
        ("too_many_series", [name("tenth")], [(now, 9.0), (now + 1, 9.0)], [], 0),
    ]
    out += [("too_many_samples", [name("good_a")], [(now + i, 1.0) for i in range(100)], [], 0)]
    return out


def tally(kinds, most=70):
    """What should come of them: refused by reason, stored samples, and of each reason the first."""
    refused, first, stored, seen, known = {}, {}, 0, 0, {}

    def refuse(why, count, labels):
        if count > 0:
            refused[why] = refused.get(why, 0) + count
            first.setdefault(why, next((v for n, v in labels if n == "__name__"), "nameless"))
    for why, labels, samples, exemplars, hists in kinds:
        weight = len(samples) + len(exemplars) + hists
        if why == "too_many_samples":
            room = most - seen
            stored += room
            refuse(why, len(samples) - room, labels)
        elif why in ("", "too_old", "too_new", "invalid_exemplar", "invalid_histogram"):
            good = [] if why.startswith("too") else samples
            stored += len(good)
            refuse(why or "none", len(samples) - len(good) + len(exemplars) + hists, labels)
            weight = len(samples)
        else:
            refuse(why, weight, labels)
        seen += weight
    return refused, first, stored


def agrees(ours, status, words, refused, first, stored, form):
    check(status == 400, f"{form}: {status} {words}")
    check(words.startswith(f"{sum(refused.values())} refused, {stored} stored: "), f"{form}: {words[:100]}; wanted "
          f"{sum(refused.values())} {refused}, stored {stored}")
    for why, count in refused.items():
        part = f"{count} {WORDS[why]}, the first: "
        check(part in words, f"{form}: no {part!r} in {words}")
        offender = words.split(part)[1].split("; ")[0]
        check(first[why] in offender, f"{form}: {why}: {first[why]!r} is not in {offender!r}")
    metrics = http(f"{ours.push}/metrics")[2].decode()
    counted = {m[0]: int(m[1]) for m in re.findall(r'^koalemos_doorman_refused_total\{reason="(\w+)"\} (\d+)$', metrics, re.M)}
    check({k: v for k, v in counted.items() if v > 0} == refused, f"{form}: /metrics has {counted}, the answer {refused}")
    total = re.search(r"^koalemos_doorman_samples_total (\d+)$", metrics, re.M)
    check(int(total.group(1)) == stored, f"{form}: /metrics has {total.group(1)} samples, not {stored}")


def holds_the_good(ours, form, now):
    got = koa.instant(ours.query, '{__name__=~".+"}', at=(now + 1000) / 1000)
    names = {dict(k)["__name__"] for k in got}
    check(names == {f"good_{c}" for c in "abcdef"}, f"{form}: stored: {sorted(names)}")
    check(koa.one(ours.query, 'good_b{a="1"}', at=(now + 1000) / 1000) == 3.0, f"{form}: good_b")
    check([k for k in got if dict(k)["__name__"] == "good_e"] == [(("__name__", "good_e"), ("cluster", "one"))],
          f"{form}: good_e: {got}")


def mixed(world, name):
    with open(world.path("mixed.yml"), "w") as f:
        f.write(MIXED)
    return koa.Serve(world, "--config", world.path("mixed.yml"), name=name, data=world.path(name))


NO_SENSE = koa._field(11, b"\x08\x00\x10\x05") + b"\x78"     # a span of five buckets, and no bucket; then its time


def test_remote_write_1_with_every_kind_of_bad_series_stores_the_good_and_counts_and_names_the_bad(world):
    ours, now = mixed(world, "rw1"), int(time.time() * 1000)
    all_kinds = kinds(now)
    refused, first, stored = tally(all_kinds)
    body = b""
    for _, labels, samples, exemplars, hists in all_kinds:
        more = b"".join(koa._field(3, b"".join(koa._field(1, koa._field(1, n.encode()) + koa._field(2, v)) for n, v in e) +
                                   b"\x11" + struct.pack("<d", 1) + b"\x18" + koa._varint(now)) for e in exemplars)
        more += koa._field(4, NO_SENSE + koa._varint(now)) * hists
        body += rw1_series(labels, samples, more)
    body += koa._field(3, koa._field(4, b"help of nobody")) * 2
    refused["invalid_metadata"], first["invalid_metadata"] = 2, "not of a metric"
    body += b"\x0a\x7fcut"
    refused["broken_message"], first["broken_message"] = 1, ""
    status, words, _ = post(ours, snappy(body))
    agrees(ours, status, words, refused, first, stored, "1.0")
    holds_the_good(ours, "1.0", now)


def test_remote_write_2_with_every_kind_of_bad_series_does_so_too_and_tells_what_was_written(world):
    ours, now = mixed(world, "rw2"), int(time.time() * 1000)
    all_kinds = kinds(now)
    refused, first, stored = tally(all_kinds, 70 - 2)
    symbols = {b"": 0}

    def refs(pairs):
        enc = lambda t: t if isinstance(t, bytes) else t.encode()
        numbers = [symbols.setdefault(enc(t), len(symbols)) for pair in pairs for t in pair]
        return koa._field(1, b"".join(koa._varint(n) for n in numbers))
    series = b""
    sample = koa._field(2, b"\x09" + struct.pack("<d", 1) + b"\x10" + koa._varint(now))
    series += koa._field(5, koa._field(1, b"\x01\xff\xff\x03") + sample)                      # a symbol that there is not
    series += koa._field(5, koa._field(1, b"\x01\x02\x03") + sample)                          # an odd number of them
    for _, labels, samples, exemplars, hists in all_kinds:
        one = refs(labels)
        one += b"".join(koa._field(2, b"\x09" + struct.pack("<d", v) + b"\x10" + koa._varint(t)) for t, v in samples)
        one += koa._field(3, NO_SENSE + koa._varint(now)) * hists
        one += b"".join(koa._field(4, refs(e) + b"\x11" + struct.pack("<d", 1) + b"\x18" + koa._varint(now)) for e in exemplars)
        series += koa._field(5, one)
    refused["malformed_labels"], first["malformed_labels"] = 2, ""
    first["too_many_labels"] = "throng1"               # groups are read ahead: one without a key is met first
    body = b"".join(koa._field(4, s) for s in symbols) + series
    kind = {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}
    status, words, headers = post(ours, snappy(body), kind)
    agrees(ours, status, words, refused, first, stored, "2.0")
    holds_the_good(ours, "2.0", now)
    written = {k.split("-Write-")[1]: v for k, v in headers.items() if k.endswith("-Written")}
    check(written == {"Samples-Written": str(stored), "Histograms-Written": "0", "Exemplars-Written": "0"}, f"{written}")
    # One that fails altogether has written nothing, and says so.
    for name, wrong, want in (("no protobuf", snappy(b"\xff" * 60), 400), ("no snappy", b"\xff" * 60, 400)):
        status, _, headers = post(ours, wrong, kind)
        written = {k.split("-Write-")[1]: v for k, v in headers.items() if k.endswith("-Written")}
        check(status == want and set(written.values()) == {"0"} and len(written) == 3, f"{name}: {status} {written}")


def test_text_with_every_kind_of_bad_series_does_so_too(world):
    ours, now = mixed(world, "text"), int(time.time() * 1000)
    order = ("unsorted_labels", "empty_label_name", "invalid_utf8", "no_name", "invalid_exemplar", "invalid_histogram")
    all_kinds = [k for k in kinds(now) if k[0] not in order[:4] and len(k[1]) < 256]
    all_kinds = [("" if k[0] in order[4:] else k[0], k[1], k[2], [], 0) for k in all_kinds]
    refused, first, stored = tally(all_kinds)
    lines = b""
    for _, labels, samples, _, _ in all_kinds:
        name = next(v for n, v in labels if n == "__name__")
        pairs = ",".join(f'{n}="{v}"' for n, v in labels if n != "__name__")
        lines += b"".join(f"{name}{{{pairs}}} {v} {t}\n".encode() for t, v in samples)
    bad_lines = (b"x{" + b",".join(b'l%d="v"' % i for i in range(300)) + b"} 1\n", b"garbled{a=\"\xff\"} 1\n", b"{a=\"1\"} 1\n", b"no value\n", b"x{a=1} 1\n", b"x{\"\"=\"1\"} 1\n")
    refused["bad_line"], first["bad_line"] = len(bad_lines), f"line {lines.count(bytes([10])) + 1}"
    lines += b"".join(bad_lines)
    status, _, words = http(f"{ours.push}/api/v1/import/prometheus", lines, {"Content-Type": "text/plain"})
    words = words.decode()
    agrees(ours, status, words, refused, first, stored, "text")
    holds_the_good(ours, "text", now)


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
