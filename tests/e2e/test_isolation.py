"""What one tenant is answered does not depend on what another has, sends or asks."""
import re
import threading
import time
import types
import urllib.parse

import koa
from koa import check, http
from test_keys import OPEN, Keys, bearer, endpoints

# What an answer says of itself: how long it took, when, and what it is called. Nothing of these is data.
TIMES = re.compile(rb'"(?:[a-zA-Z]*Ns|[a-zA-Z]*[sS]econds|[a-zA-Z]*Time|[a-zA-Z]*Ms|took|duration|time|age|id|requestId|traceId|'
                   rb'peakSamples|[a-zA-Z]*ngestionRate|memory|bytes|allocated|cpu|pages)":\s*(?:"[^"]*"|[-0-9.e+]+)')
# Orders; pushes; and what tells of A's own questions before: how they were served, how long they took.
NOT_ASKED = ("quit", "reload", "/write", "push", "import", "otlp", "admin", "top_queries", "active_queries", "query_explain")


def corpus(tenant, now):
    """Text lines: names that both have, with other values; and names of its own."""
    factor = 1 if tenant == "a" else 1000
    lines = []
    for t in range(60):
        at = now - t * 15000
        for job in ("api", "web"):
            lines.append(f'up{{job="{job}"}} {factor} {at}')
            lines.append(f'requests_total{{job="{job}",instance="i{t % 3}"}} {factor * (60 - t)} {at}')
        lines.append(f'of_{tenant}{{x="secret-{tenant}",only_{tenant}="y"}} {factor} {at}')
    return ("# HELP up is of " + tenant + "\n# TYPE up gauge\n" + "\n".join(lines) + "\n").encode()


def asks(now):
    """Parameters that make each endpoint look at data, and none."""
    end = f"{now / 1000:.3f}"
    every = [("start", f"{now / 1000 - 900:.3f}"), ("end", end), ("time", end), ("step", "15"), ("match[]", '{__name__=~".+"}'),
             ("label_names[]", "job"), ("selector", "up"), ("search[]", "u"), ("label", "job"), ("format", "__name__,__value__,__timestamp__:unix_ms"),
             ("metric", "up")]
    yield []
    for q in ["up", "sum by (job) (rate(requests_total[5m]))", '{__name__=~".+"}', "absent(of_b)", 'count({x="secret-b"})', "of_b",
              "count by (__name__) ({job=~\".*\"})"]:
        yield [("query", q), *every]


def everything(serve, key, now, reads=True):
    found = {}
    for method, path in endpoints(serve.push, serve.operator):
        if method not in ("GET", "POST") or any(s in path for s in NOT_ASKED):
            continue
        for params in asks(now):
            for value in ("job", "only_b", "__name__", "x") if "*" in path else ("",):
                url = serve.push + path.replace("*", value)
                query = urllib.parse.urlencode(params)
                if method == "GET":
                    status, head, body = http(f"{url}?{query}", headers=bearer(key))
                else:
                    status, head, body = http(url, query.encode(), {**bearer(key), "Content-Type": "application/x-www-form-urlencoded"}, method="POST")
                found[method, path, value, query] = status, head.get("Content-Type"), TIMES.sub(b"T", body)
    for path in ("/api/v1/read", "/prometheus/api/v1/read") if reads else ():
        for names in (("up",), ("of_a",), ("of_b",), ("up", "of_b", "requests_total")):
            found["POST", path, "", "remote read of " + " ".join(names)] = remote_read(serve, key, path, names, now)
    return found


def remote_read(serve, key, path, names, now):
    """As a Prometheus asks, samples in place of chunks: what came, unpacked."""
    field, varint = koa._field, koa._varint
    queries = b"".join(field(1, b"\x08" + varint(now - 900000) + b"\x10" + varint(now) + field(3, field(2, b"__name__") + field(3, n.encode())))
                       for n in names)
    status, head, body = http(serve.push + path, koa.snappy(queries), {**bearer(key), **koa.RW1, "X-Prometheus-Remote-Read-Version": "0.1.0"})
    return status, head.get("Content-Type"), body


def test_one_tenants_answers_are_the_same_bytes_with_and_without_another(world):
    keys = Keys(world)
    a, b, operator = keys.new("read,write", "a"), keys.new("read,write", "b"), keys.new("read,write,admin", "*")
    serve = koa.Serve(world, *keys.flags)
    serve.operator = operator
    now = int(time.time() * 1000) // 15000 * 15000 - 30000
    write = lambda key, tenant: check(http(f"{serve.push}/api/v1/import/prometheus", corpus(tenant, now), bearer(key))[0] == 204, tenant)
    flush = lambda: check(http(f"{serve.push}/api/v1/admin/tsdb/flush", b"", bearer(operator))[0] == 204, "flush")

    def compare(when, before, after):
        check(before.keys() == after.keys(), f"{when}: other endpoints")
        for asked, was in before.items():
            check(after[asked] == was, f"{when}: {asked}\n was {was}\n is {after[asked]}"[:3000])

    write(a, "a")
    alone = everything(serve, a, now)
    check(all(v[0] == 200 and len(v[2]) > 100 for k, v in alone.items() if k[3] == "remote read of of_a"), "remote read finds nothing")
    check(len(alone) > 300 and sum(v[0] == 200 for v in alone.values()) > 150, f"{len(alone)} answers, {sum(v[0] == 200 for v in alone.values())} good")
    write(b, "b")
    stop = threading.Event()

    def ask_as_b():
        while not stop.is_set():
            http(f"{serve.push}/api/v1/query?query=sum(requests_total{{job!=%22zaphod%22}})", headers=bearer(b))
            http(f"{serve.push}/api/v1/query?query=sum(({{", headers=bearer(b))
            write(b, "b")
    others = [threading.Thread(target=ask_as_b) for _ in range(2)]
    for t in others:
        t.start()
    try:
        compare("while b writes and asks", alone, everything(serve, a, now))
    finally:
        stop.set()
        for t in others:
            t.join()
    # What tells of questions tells each of his own: b's are none of a's.
    for path in ("/api/v1/status/top_queries", "/api/v1/status/active_queries", "/api/v1/query_explain?query=of_b", "/api/v1/notifications"):
        status, _, body = http(serve.push + path, headers=bearer(a))
        check(status == 200 and b"zaphod" not in body, f"{path}: {status} {body[:500]}")
    check(b"zaphod" in http(f"{serve.push}/api/v1/status/top_queries", headers=bearer(b))[2], "b is told of its own")
    theirs = everything(serve, b, now)
    check(theirs != alone, "b is answered what a is")
    flush()
    stored = {k: v for k, v in everything(serve, a, now).items() if "/status/" not in k[1]}
    compare("after a flush", {k: v for k, v in alone.items() if k in stored}, stored)
    for key, tenant in ((a, "b"), (b, "a")):
        for method, path in endpoints(serve.push, operator):
            if path not in OPEN:
                status = http(serve.push + path.replace("*", "x"), b"" if method in ("POST", "PUT") else None, bearer(key, tenant), method=method)[0]
                check(status == 403, f"{method} {path} as another tenant: {status}")


def test_nor_in_a_cluster_from_whichever_service(world):
    keys = Keys(world)
    a, b, operator = keys.new("read,write", "a"), keys.new("read,write", "b"), keys.new("read,write,admin", "*")
    cell = koa.Cluster(world, *keys.flags)
    now = int(time.time() * 1000) // 15000 * 15000 - 30000
    services = [types.SimpleNamespace(push=cell.url(name), operator=operator) for name in ("doorman", "querier", "ingestor-0")]

    def write(key, tenant):
        check(http(f"{cell.push}/api/v1/import/prometheus", corpus(tenant, now), bearer(key))[0] == 204, tenant)
        koa.eventually(f"all of {tenant}", lambda: b'"541"' in http(
            f"{cell.query}/api/v1/query?query=sum(count_over_time(%7B__name__=~%22.%2B%22%7D[1h]))%2B241&time={now / 1000 + 1}", headers=bearer(key))[2])

    def all_of_them(key):
        return {(i, *k): v for i, s in enumerate(services) for k, v in everything(s, key, now, i == 1).items()}
    write(a, "a")
    alone = all_of_them(a)
    check(len(alone) > 300 and sum(v[0] == 200 for v in alone.values()) > 150, f"{len(alone)} answers, {sum(v[0] == 200 for v in alone.values())} good")
    write(b, "b")
    for asked, is_now in all_of_them(a).items():
        check(alone[asked] == is_now, f"{asked}\n was {alone[asked]}\n is {is_now}"[:3000])
    check(all_of_them(b) != alone, "b is answered what a is")
