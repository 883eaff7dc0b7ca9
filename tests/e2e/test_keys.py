"""API keys: who may do what, for which tenant, how often; and the log of orders and refusals."""
import base64
import glob
import json
import os
import re
import socket
import subprocess
import time

import koa
import koa_cell
from test_otlp import export as otlp_export
from koa import check, eventually, http, push
from test_messages import Nats

OPEN = {"/-/healthy", "/-/ready", "/ready", "/", "/page.js", "/page.css"}


def tool(*args, status=0):
    p = subprocess.run([os.path.join(koa.BIN, "koalemos"), *map(str, args)], capture_output=True, text=True, timeout=60)
    check(p.returncode == status, f"koalemos {args}: {p.returncode} {p.stdout} {p.stderr}")
    return p.stdout.strip() or p.stderr.strip()


class Keys:
    def __init__(self, world):
        self.file = world.path("keys")
        self.flags = ("--auth.keys.file", self.file)

    def new(self, roles, tenants, *more):
        return tool("key", "new", "--file", self.file, "--roles", roles, "--tenants", tenants, *more)

    def revoke(self, key):
        tool("key", "revoke", "--file", self.file, key.split(".")[0])


def bearer(key, tenant=None):
    return {"Authorization": f"Bearer {key}", **({"X-Scope-OrgID": tenant} if tenant else {})}


def basic(key, user="grafana"):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()}


def write(base, key, name="m", tenant=None, headers=None):
    body = koa.snappy(koa.rw1_series({"__name__": name}, [(int(time.time() * 1000), 1.0)]))
    return http(f"{base}/api/v1/write", body, {**koa.RW1, **(headers or bearer(key, tenant))})[0]


def names(base, key, tenant=None):
    status, _, body = http(f"{base}/api/v1/label/__name__/values", headers=bearer(key, tenant))
    return json.loads(body)["data"] if status == 200 else status


def endpoints(base, key):
    """Every route that is registered, from what counts its answers."""
    status, _, body = http(f"{base}/metrics", headers=bearer(key))
    check(status == 200, f"/metrics: {status} {body[:200]}")
    found = set(re.findall(r'^koalemos_http_requests_total\{code="2xx",method="([^"]+)",path="([^"]+)"\}', body.decode(), re.M))
    return sorted((m, path) for methods, path in found for m in methods.split(","))


RULES = {"/api/v1/query", "/api/v1/query_range", "/api/v1/write", "/api/v1/push", "/api/v1/rules", "/api/v1/alerts", "/api/v1/status/buildinfo"}


def walk(base, operator, rules, admin, least):
    all_of_them = endpoints(base, operator)
    check(len(all_of_them) >= least, f"only {len(all_of_them)} endpoints")
    for method, path in all_of_them:
        url = base + path.replace("*", "x")
        data = b"" if method in ("POST", "PUT") else None
        status, headers, body = http(url, data, method=method)
        if path in OPEN:
            check(status == 200, f"{method} {path}: {status}")
            continue
        check(status == 401 and "Basic" in headers["WWW-Authenticate"] and (b"key" in body or method == "HEAD"), f"{method} {path} without a key: {status} {body}")
        ruled = path.removeprefix("/prometheus") in RULES
        check(not ruled or http(url, data, bearer(rules), method=method)[0] != 403, f"{method} {path}: not for rules")
        status, _, body = http(url, data, bearer(admin if ruled else rules), method=method)
        check(status == 403 and (b"has no role" in body or method == "HEAD"), f"{method} {path}: {status} {body}: it has no row in libkoal/auth/endpoints.c")
    return {path.removeprefix("/prometheus") for _, path in all_of_them}


def test_every_endpoint_of_every_service_wants_a_key_with_its_role(world):
    keys = Keys(world)
    operator, rules, admin = keys.new("read,write,admin", "*"), keys.new("rules", "*"), keys.new("admin", "*")
    serve = koa.Serve(world, "--http.lifecycle", "true", *keys.flags)
    found = walk(serve.push, operator, rules, admin, 80)
    check(http(f"{serve.push}/nowhere")[0] == 401, "what is not there is told to nobody")
    check(http(f"{serve.push}/nowhere", headers=bearer(operator))[0] == 404, "but to a key")
    cell = koa_cell.Cell(world, *keys.flags)
    for name in ("doorman-0", "ingestor-0", "querier"):
        found |= walk(cell.url(name), operator, rules, admin, 8)
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "libkoal", "auth", "endpoints.c")) as f:
        rows = set(re.findall(r'^    [A-Z_]+\([^,]+, "(/[^"]*)"\)', f.read(), re.M))
    nobody = {r for r in rows - found if not r.startswith("/opentelemetry.")}      # gRPC's
    check(len(rows) > 80 and not nobody, f"rows of no route: {sorted(nobody)}")


def test_a_key_decides_the_tenant_and_goes_no_further(world):
    keys = Keys(world)
    a, b = keys.new("read,write", "team-a"), keys.new("read,write", "team-b,team-c")
    reader, operator = keys.new("read", "team-a"), keys.new("read,write,admin", "*")
    serve = koa.Serve(world, *keys.flags)
    check(write(serve.push, a, "of_a") == 204 and write(serve.push, b, "of_b") == 204, "pushes")
    check(write(serve.push, b, "of_c", "team-c") == 204, "the second tenant of a key")
    check(write(serve.push, operator, "of_any") == 204 and write(serve.push, operator, "of_a_too", "team-a") == 204, "of all")
    check(names(serve.query, a) == ["of_a", "of_a_too"], f"{names(serve.query, a)}")
    check(names(serve.query, a, "team-a") == names(serve.query, reader) == names(serve.query, operator, "team-a"), "the same")
    check(names(serve.query, b) == ["of_b"] and names(serve.query, b, "team-c") == ["of_c"], "b")
    check(names(serve.query, operator) == ["of_any"], "anonymous, for a key of all tenants that names none")
    check(names(serve.query, a, "team-b") == 403 and write(serve.push, a, "x", "team-b") == 403, "another's tenant")
    check(write(serve.push, reader, "x") == 403, "a reader writes")
    flush = lambda key: http(f"{serve.push}/api/v1/admin/tsdb/flush", b"", bearer(key))[0]
    check(flush(a) == 403 and flush(operator) == 204, "who may flush")
    check(http(f"{serve.push}/metrics", headers=bearer(reader))[0] == 403, "a tenant's key reads what all do")

    # As Grafana and Prometheus may send it; and what is no key.
    check(write(serve.push, None, "of_a", headers=basic(a)) == 204, "Basic")
    check(write(serve.push, None, "of_a", headers={"Authorization": f"Token {a}"}) == 204, "Token")
    id_, secret = a.split(".")
    for wrong in (f"{id_}.{'0' * 64}", f"{id_}.{secret[:-1]}", f"{'1' if id_[0] == '0' else '0'}{id_[1:]}.{secret}", f".{secret}", id_, secret, a + a, "x" * 5000):
        for headers in (bearer(wrong), basic(wrong)):
            status, _, body = http(f"{serve.query}/api/v1/labels", headers=headers)
            check(status == 401 and secret not in body.decode(), f"{wrong[:40]}: {status} {body[:200]}")
    check(http(f"{serve.query}/api/v1/labels?{secret}")[0] == 401, "in the query")
    # A body is not read for who has no key.
    status, _, _ = http(f"{serve.push}/api/v1/write", b"x" * 1_000_000, koa.RW1)
    check(status == 401, f"{status}")
    with socket.create_connection(("127.0.0.1", serve.port), timeout=30) as s:
        s.sendall(b"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
        check(s.recv(100).startswith(b"HTTP/1.1 401 "), "before any of it has come")


def test_the_file_of_keys_is_taken_whole_or_not_at_all_while_it_runs(world):
    keys = Keys(world)
    a, operator = keys.new("read", "a"), keys.new("read,admin", "*")
    serve = koa.Serve(world, *keys.flags)
    check(names(serve.query, a) == [], "a")
    b = keys.new("read", "b")
    keys.revoke(a)
    eventually("a is revoked", lambda: names(serve.query, a) == 401)
    check(names(serve.query, b) == [], "b is new")
    with open(keys.file, "a") as f:
        f.write("half a line\n")
    eventually("it is said what is wrong", lambda: "line 4" in serve.process.words())
    check(names(serve.query, b) == [] and names(serve.query, operator) == [], "what was known stays")
    os.chmod(keys.file, 0o666)
    p = koa.Serve(world, *keys.flags, name="second", data=world.path("second"), ready=False).process
    check(p.ended() != 0 and "chmod" in p.words(), f"anyone may write it: {p.words()}")


def test_a_key_that_asks_too_often_waits(world):
    keys = Keys(world)
    slow, other = keys.new("read", "a", "--rate", "5"), keys.new("read", "a")
    serve = koa.Serve(world, *keys.flags)
    answers = [http(f"{serve.query}/api/v1/labels", headers=bearer(slow)) for _ in range(60)]
    late = [headers for status, headers, _ in answers if status == 429]
    check(late and late[0]["Retry-After"] == "1", f"{[a[0] for a in answers]}")
    check(sum(a[0] == 200 for a in answers) >= 5, "what it may")
    check(names(serve.query, other) == [], "another key")
    eventually("it may again", lambda: names(serve.query, slow) == [])


def test_a_listener_that_others_reach_does_not_start_without_keys_unless_told(world):
    for flags in (["--listen", "0.0.0.0:0"], ["--listen", ":0"], ["--listen", "[::]:0"],
                  ["--otlp.grpc_listen", "0.0.0.0:0", "--listen", "127.0.0.1:0"]):
        p = world.run("open", os.path.join(koa.BIN, "koalemos"), "serve", "--data-dir", world.path("d"), *flags)
        check(p.ended() == 2 and "auth.keys.file" in p.words() and "auth.anonymous" in p.words(), p.words())
    keys = Keys(world)
    keys.new("read", "a")
    for name, more in (("told", ["--auth.anonymous", "true"]), ("keyed", keys.flags)):
        p = world.run(name, os.path.join(koa.BIN, "koalemos"), "serve", "--data-dir", world.path("d"), "--listen", "0.0.0.0:0", *more)
        eventually("it listens", lambda: "listening on" in p.words())
        check(p.stop() == 0, "ends")


def test_grpc_and_messages_want_keys_as_http_does(world):
    keys = Keys(world)
    a, reader, operator = keys.new("read,write", "team-a"), keys.new("read", "team-a"), keys.new("read", "*")
    grpc = koa.free_port()
    ours = koa.Cluster(world, *keys.flags, "--otlp.grpc_listen", f"127.0.0.1:{grpc}")

    def export(key, tenant):
        os.environ["KOA_AUTHORIZATION"] = f"Bearer {key}" if key else ""
        try:
            otlp_export("grpc", f"http://127.0.0.1:{grpc}", "cumulative", "none", tenant)
        finally:
            del os.environ["KOA_AUTHORIZATION"]
        metrics = http(f"{ours.push}/metrics", headers=bearer(operator))[2].decode()
        return [int(n) for n in re.findall(r'^koalemos_grpc_answers_total\{status="(?:0|7|16)"\} (\d+)', metrics, re.M)]
    before = export(None, "team-a")
    check(before[0] == before[1] == 0 and before[2] > 0, f"without a key: {before}")
    for key, tenant in ((reader, "team-a"), (a, "team-b")):
        export(key, tenant)
    before = export(None, "team-a")
    check(before[0] == 0 and before[1] >= 2, f"a reader, and another tenant's: {before}")
    check(export(a, "team-a")[0] >= 1, "its own")
    eventually("it is read back", lambda: "e2e_requests_total" in names(ours.query, a))

    nats = Nats(ours.nats_port)
    def ask(tenant, key):
        headers = {"Content_Type": "text/plain", **({"Authorization": f"Bearer {key}"} if key else {})}
        return nats.ask(f"koa.e2e.ingest.{tenant}", b"of_nats 1\n", **headers)[0]
    eventually("the doorman serves", lambda: ask("team-a", a) == 204)
    check(ask("team-a", None) == 401 and ask("team-a", reader) == 403 and ask("team-b", a) == 403, "refused")
    eventually("it is read back", lambda: "of_nats" in names(ours.query, a))


def test_orders_and_refusals_are_in_a_log_that_tells_when_it_was_touched(world):
    keys = Keys(world)
    operator, a = keys.new("read,admin", "*"), keys.new("read", "a")
    serve = koa.Serve(world, *keys.flags, "--http.lifecycle", "true")
    for _ in range(3):
        check(http(f"{serve.push}/api/v1/admin/tsdb/flush", b"", bearer(operator))[0] == 204, "flush")
    check(http(f"{serve.push}/api/v1/admin/tsdb/flush", b"", bearer(a))[0] == 403, "refused")
    check(http(f"{serve.push}/-/reload", b"")[0] == 401, "no key")
    folder = world.path("data", "audit")
    check("records" in tool("audit", "verify", folder), "while it runs")
    check(serve.process.stop() == 0, "stop")
    words = tool("audit", "verify", folder)
    file, = glob.glob(f"{folder}/*.audit")
    records = [json.loads(line) for line in open(file)]
    check([r["event"] for r in records] == ["start"] + ["order", "done"] * 3 + ["refused"] * 2 + ["stop"], f"{records}")
    check(records[1]["key"] == operator.split(".")[0] and records[1]["peer"] == "127.0.0.1" and
          records[1]["path"] == "/api/v1/admin/tsdb/flush" and records[2]["status"] == 204, f"{records[1:3]}")
    check(records[7]["key"] == a.split(".")[0] and records[7]["status"] == 403 and records[8]["status"] == 401, f"{records[7:9]}")
    check(operator.split(".")[1] not in open(file).read(), "the secret")
    check(records[-1]["hash"] in words and records[-1]["hash"] in serve.process.words(), "the hash is in the log, too")

    whole = open(file, "rb").read()
    lines = whole.splitlines(keepends=True)
    for touched in (whole.replace(b'"status":403', b'"status":200'), b"".join(lines[:4] + lines[5:]), b"".join(lines[:-1]),
                    whole[:-50], b"".join(lines[1:]), b"".join(lines[:2] + lines[2:3] + lines[2:]), b""):
        with open(file, "wb") as f:
            f.write(touched)
        tool("audit", "verify", folder, status=1)
    os.remove(file)
    tool("audit", "verify", folder, status=1)
    with open(file, "wb") as f:
        f.write(whole)
    tool("audit", "verify", folder)

    # A killed server goes on with the chain.
    serve.process.start()
    serve.ready()
    check(http(f"{serve.push}/api/v1/admin/tsdb/flush", b"", bearer(operator))[0] == 204, "flush")
    serve.process.kill()
    tool("audit", "verify", folder)
    serve.process.start()
    serve.ready()
    check(serve.process.stop() == 0, "stop")
    tool("audit", "verify", folder)
