"""OpenTelemetry's own SDK pushes known values with each of its exporters; PromQL reads them back exactly."""
import contextlib
import gzip
import json
import os
import socket
import subprocess
import time

import koa
from koa import api, check, http, instant, one

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = lambda: os.path.join(os.path.dirname(koa.PEERS), "npm", "node_modules")
SIZES = [1, 2, 3, 4, 1024, 0, 0.001]


def export(protocol, url, temporality, compression, tenant):
    p = subprocess.run(["node", os.path.join(HERE, "otlp_push.js"), protocol, url, temporality, compression, tenant],
                       env={**os.environ, "NODE_PATH": MODULES(), "NO_PROXY": "127.0.0.1"},
                       capture_output=True, text=True, timeout=120)
    check(p.returncode == 0 and p.stdout.strip().endswith("done"),
          f"{protocol} {temporality}: {p.returncode} {p.stdout[-500:]} {p.stderr[-1500:]}")


def holds(buckets, value):
    """The count of the bucket that `value` lies in."""
    for rule, left, right, count in buckets:
        left, right = float(left), float(right)
        if left < value < right or (value == right and rule in (0, 3)) or (value == left and rule in (1, 3)):
            return float(count)
    return 0


def read_back(base, instance, tenant):
    ask = lambda q: one(base, q, tenant=tenant)
    who = f'job="shop/e2e",instance="{instance}"'
    got = {k: v for k, v in instant(base, f'e2e_requests_total{{{who},code="200",ok="true"}}', tenant=tenant).items()}
    check(sorted(got.values()) == [104, 1013], f"requests: {got}")
    check(ask(f'e2e_requests_total{{{who},http_route="/a"}}') == 1013, "requests of /a")
    check(ask(f'e2e_queue{{{who}}}') == 10, "an up-down counter")
    check(ask(f'e2e_temperature_celsius{{{who}}}') == -3.125, "a gauge")
    for le, count in (("10", 2), ("100", 3), ("+Inf", 5)):
        check(ask(f'e2e_latency_milliseconds_bucket{{{who},le="{le}"}}') == count, f"bucket {le}")
    check(ask(f'e2e_latency_milliseconds_count{{{who}}}') == 5, "count")
    check(ask(f'e2e_latency_milliseconds_sum{{{who}}}') == 665.5, "sum")
    check(ask(f'histogram_count(e2e_sizes_bytes{{{who}}})') == len(SIZES), "count of a native histogram")
    check(ask(f'histogram_sum(e2e_sizes_bytes{{{who}}})') == sum(SIZES), "sum of a native histogram")
    data = api(base, "query", query=f'e2e_sizes_bytes{{{who}}}', tenant=tenant)["result"]
    buckets = data[0]["histogram"][1]["buckets"]
    check(sum(float(b[3]) for b in buckets) == len(SIZES), f"buckets {buckets}")
    for size in SIZES:
        check(holds(buckets, size) == 1, f"{size} lies in none of {buckets}")
    check(instant(base, f'target_info{{{who}}}', tenant=tenant) ==
          {(("__name__", "target_info"), ("host_name", "box"), ("instance", instance), ("job", "shop/e2e"),
            ("list", '["a","b"]')): 1}, "target_info")
    # Three exports, each of its own time and value: the sums, one by one.
    rounds = api(base, "query", query=f'e2e_requests_total{{{who},http_route="/a"}}[5m]', tenant=tenant)["result"]
    values = [v for _, v in rounds[0]["values"]]       # a shutdown may export the last once more
    check(values[:3] == ["3", "13", "1013"] and set(values[3:]) <= {"1013"}, f"samples {rounds}")
    meta = api(base, "metadata", tenant=tenant)
    check(meta["e2e_requests_total"] == [{"type": "counter", "help": "What came.", "unit": ""}], f"{meta}")
    check(meta["e2e_latency_milliseconds"][0]["type"] == "histogram" and
          meta["e2e_temperature_celsius"][0]["unit"] == "celsius", f"{meta}")


def grpc(port):
    return ["--otlp.grpc_listen", f"127.0.0.1:{port}"], ("grpc", f"http://127.0.0.1:{port}")


def every_way(ways, base):
    for protocol, url in ways:
        for temporality, compression in (("cumulative", "none"), ("delta", "gzip")):
            tenant = f"{protocol}-{temporality}"
            export(protocol, url, temporality, compression, tenant)
            read_back(base, protocol, tenant)


def test_opentelemetrys_exporters_are_read_back_exactly_over_http_and_grpc(world):
    flags, way = grpc(koa.free_port())
    serve = koa.Serve(world, *flags)
    every_way([("proto", f"{serve.push}/api/v1/otlp/v1/metrics"), ("json", f"{serve.push}/otlp/v1/metrics"), way],
              serve.query)
    serve.flush_all()
    read_back(serve.query, "proto", "proto-delta")
    serve.process.kill()
    serve.process.start()
    serve.ready()
    read_back(serve.query, "json", "json-delta")
    read_back(serve.query, "grpc", "grpc-cumulative")


def test_cluster_reads_opentelemetrys_exporters_back_exactly(world):
    flags, way = grpc(koa.free_port())
    cluster = koa.Cluster(world, *flags)
    every_way([("json", f"{cluster.push}/otlp/v1/metrics"), way], cluster.query)


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def test_hostile_grpc_clients_leave_memory_and_others_alone(world):
    """HTTP/2 by hand: resets in a row, headers without end, windows of nothing, messages announced as huge, and
    connections that say nothing, all at once and more than once; an honest sender is served meanwhile."""
    flags, (_, url) = grpc(koa.free_port())
    serve = koa.Serve(world, *flags)
    port = int(url.rsplit(":", 1)[1])
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
    path = b"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
    literal = lambda name, value: b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
    head = b"\x83\x86" + literal(b":path", path) + literal(b"content-type", b"application/grpc")
    stubborn = literal(b"x" * 100, b"y" * 120)
    attacks = [
        hello + b"".join(frame(1, 4, 2 * i + 1, head) + frame(3, 0, 2 * i + 1, b"\0\0\0\x08") for i in range(20000)),
        hello + frame(1, 0, 1, head) + b"".join(frame(9, 0, 1, stubborn * 60) for _ in range(2000)),
        hello + b"".join(frame(1, 4, 2 * i + 1, head + stubborn * 80) for i in range(2000)),
        hello + frame(4, 0, 0, b"\0\x04\0\0\0\0") + b"".join(
            frame(1, 4, 2 * i + 1, head) + frame(0, 1, 2 * i + 1, b"\0\0\0\0\0") for i in range(5000)),
        hello + b"".join(frame(1, 4, 2 * i + 1, head) + frame(0, 0, 2 * i + 1, b"\0\x01\xff\xff\xff" + b"z" * 4000)
                         for i in range(60)),
        hello + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 50000, hello + frame(6, 0, 0, b"12345678") * 100000,
        hello + frame(4, 0, 0, b"\0\x04\0\0\0\1" * 30) * 20000, b"GET / HTTP/1.1\r\n\r\n", os.urandom(100000), b"",
    ]
    sockets = []
    for _ in range(3):
        for attack in attacks:
            s = socket.create_connection(("127.0.0.1", port))
            s.settimeout(3)
            sockets.append(s)
            with contextlib.suppress(OSError):
                s.sendall(attack)
        sockets += [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    export("grpc", url, "cumulative", "gzip", "honest")
    read_back(serve.query, "grpc", "honest")
    check(serve.process.resident_bytes() < 512 << 20, f"{serve.process.resident_bytes() >> 20} MiB")
    for s in sockets:
        s.close()
    print(f"       resident {serve.process.resident_bytes() >> 20} MiB", flush=True)


def post(serve, body, kind="application/json", **headers):
    status, head, answer = http(f"{serve.push}/otlp/v1/metrics", body,
                                {"Content-Type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}})
    return status, head, answer


def gauge(name, points):
    return {"name": name, "gauge": {"dataPoints": points}}


def request(*metrics):
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": list(metrics)}]}]}).encode()


def test_otlp_answers_in_the_senders_encoding_and_counts_what_it_refused(world):
    serve = koa.Serve(world)
    now = time.time_ns()
    good = {"timeUnixNano": str(now), "asInt": "7"}
    status, head, body = post(serve, request(gauge("fine", [good])))
    check((status, head["Content-Type"], json.loads(body)) == (200, "application/json", {}), f"{status} {body!r}")
    check(one(serve.query, "fine") == 7, "what was taken")

    old = {"timeUnixNano": "1000000000", "asInt": "7"}
    no_value = {"timeUnixNano": str(now)}
    long = {**good, "attributes": [{"key": "a", "value": {"stringValue": "x" * 5000}}]}
    status, head, body = post(serve, request(gauge("mixed", [good, old, no_value, long])))
    partial = json.loads(body)["partialSuccess"]
    check(status == 200 and partial["rejectedDataPoints"] == "3", f"{status} {body!r}")
    for words in ("1 older than limits.past", "1 without a value", "1 with a label value longer", "mixed"):
        check(words in partial["errorMessage"], f"{words}: {partial}")
    check(one(serve.query, "mixed") == 7, "the good one among them")
    metrics = http(f"{serve.push}/metrics")[2].decode()
    for reason in ("too_old", "no_value", "long_label_value"):
        check(f'reason="{reason}"}} 1\n' in metrics, f"{reason} is not counted once")

    for body, kind, headers, status, words in (
            (b"{", "application/json", {}, 400, "JSON"),
            (b"\x0a\xff", "application/x-protobuf", {}, 400, "no OTLP metrics"),
            (b"{}", "text/xml", {}, 415, "Content-Type"),
            (b"{}", "application/json", {"Content_Encoding": "br"}, 415, "br"),
            (b"not gzip", "application/json", {"Content_Encoding": "gzip"}, 400, "gzip"),
            (b"{}", "application/json", {"X_Scope_OrgID": "../x"}, 400, "tenant"),
            (b"[" * 100000, "application/json", {}, 400, "JSON"),
            (b'{"x":' * 100000, "application/json", {}, 413, "nested")):
        got, head, answer = post(serve, body, kind, **headers)
        check(got == status, f"{kind} {body[:20]!r}: {got} {answer!r}")
        if head["Content-Type"] == "application/json":
            said = json.loads(answer)
            check(said["code"] > 0 and words in said["message"], f"{said}")
        else:
            check(head["Content-Type"] == "application/x-protobuf" and answer[0] == 8 and words.encode() in answer,
                  f"{answer!r}")


def test_otlp_bodies_made_to_hurt_are_refused_within_bounds(world):
    serve = koa.Serve(world)
    field, now = koa._field, time.time_ns()
    times = b"\x19" + now.to_bytes(8, "little") + b"\x31" + (7).to_bytes(8, "little")

    def message(name, point):
        return field(1, field(2, field(2, field(1, name) + field(5, field(1, times + point)))))
    pair = lambda k, v: field(7, field(1, k) + field(2, v))
    nested = b""
    for _ in range(20000):                             # an AnyValue that is a list of an AnyValue that is ...
        nested = field(5, field(1, nested))
    many = b"".join(pair(b"a%d" % i, field(1, b"x")) for i in range(100000))
    attribute = lambda k: field(1, field(1, k) + field(2, field(1, b"x")))
    # A resource as large as all its points: each must not walk through it.
    heavy = field(1, field(1, b"".join(attribute(b"r%d" % i) for i in range(300000)) + attribute(b"service.name")) +
                  field(2, field(2, field(1, b".") + field(5, b"".join(
                      field(1, times + pair(b"a", field(1, b"%d" % i))) for i in range(100000))))))
    buckets = request({"name": "wide", "histogram": {"aggregationTemporality": 2, "dataPoints": [
        {"timeUnixNano": str(now), "count": "1", "bucketCounts": [0] * 300000, "explicitBounds": list(range(299999))}]}})
    proto, js = "application/x-protobuf", "application/json"
    for body, kind, headers, statuses, words in (
            (gzip.compress(bytes(200 << 20), 1), proto, {"Content_Encoding": "gzip"}, (413,), "limits.inflated"),
            (gzip.compress(b" " * (200 << 20), 1), js, {"Content_Encoding": "gzip"}, (413,), "limits.inflated"),
            (message(b"deep", pair(b"k", nested)), proto, {}, (200,), "deep"),
            (heavy, proto, {}, (200,), "malformed"),
            (message(b"many", many), proto, {}, (200,), "many"),
            (message(b"long", pair(b"k", field(1, b"v" * 3000000))), proto, {}, (200,), "long"),
            (message(b"n" * 1000000, b""), proto, {}, (200,), "metric name"),
            (buckets, js, {}, (200,), "wide"),
            (b'{"resourceMetrics":[' + b"{}," * 3000000 + b"{}]}", js, {}, (200,), "")):
        status, _, answer = post(serve, body, kind, **headers)
        check(status in statuses, f"{words}: {status} {answer[:300]!r}")
        check(status != 200 or words == "" or b"rejected" in answer or answer[:1] == b"\x0a", f"{words}: {answer[:300]!r}")
    check(one(serve.query, 'count({__name__=~".+"}) or vector(0)') == 0, "nothing of it was stored")
    check(serve.process.resident_bytes() < 512 << 20, f"{serve.process.resident_bytes() >> 20} MiB")
    print(f"       resident {serve.process.resident_bytes() >> 20} MiB", flush=True)
