"""Traces: one request, followed through every service by what a collector gets."""
import http.server
import json
import struct
import threading
import time
import urllib.parse

import koa
from koa import check, eventually
from test_told import fill, metric


# ---- the little of OTLP that is ours, read back ----

def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7f) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """[(number, value)...] of a protobuf message; what is not as it should be raises."""
    at, found = 0, []
    while at < len(data):
        tag, at = varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value = struct.unpack_from("<Q" if kind == 1 else "<I", data, at)[0]
            at += size
        else:
            check(kind == 2, f"wire type {kind}")
            size, at = varint(data, at)
            check(at + size <= len(data), "a field that ends behind its message")
            value, at = data[at:at + size], at + size
        found.append((tag >> 3, value))
    return found


def of(message, number):
    return [value for n, value in fields(message) if n == number]


def attributes(owner, number):
    found = {}
    for pair in of(owner, number):
        (kind, value), = fields(of(pair, 2)[0])
        found[of(pair, 1)[0].decode()] = value.decode() if kind == 1 else value
    return found


class Span:
    def __init__(self, service, data):
        self.service = service
        self.trace, self.id = of(data, 1)[0].hex(), of(data, 2)[0].hex()
        self.parent = (of(data, 4) or [b""])[0].hex()
        self.name = of(data, 5)[0].decode()
        self.begin, self.end = of(data, 7)[0], of(data, 8)[0]
        self.attrs = attributes(data, 9)
        self.links = [(of(link, 1)[0].hex(), of(link, 2)[0].hex()) for link in of(data, 13)]
        self.failed = any(of(status, 3) == [2] for status in of(data, 15))

    def __repr__(self):
        return f"<{self.service}: {self.name} {self.id} below {self.parent or 'nothing'} {self.attrs}>"


class Collector(http.server.ThreadingHTTPServer):
    """Takes OTLP over HTTP, as a real one does; `spans` is what came."""

    def __init__(self, world):
        super().__init__(("127.0.0.1", 0), Taker)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1/traces"
        self.spans, self.answers, self.seen, self.tokens = [], [], 0, set()
        threading.Thread(target=self.serve_forever, daemon=True).start()
        world.callback(self.server_close)
        world.callback(self.shutdown)

    def of(self, trace):
        return [s for s in self.spans if s.trace == trace]


class Taker(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen += 1
        self.server.tokens.add(self.headers["Authorization"])
        status = self.server.answers.pop(0) if self.server.answers else 200
        if self.path != "/v1/traces" or self.headers["Content-Type"] != "application/x-protobuf":
            status = 400
        if status == 200:
            for resource in of(body, 1):
                service = attributes(of(resource, 1)[0], 1)["service.name"]
                for scope in of(resource, 2):
                    self.server.spans += [Span(service, s) for s in of(scope, 2)]
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{ABOVE}-01"}


def whole(collector, trace, names):
    """The spans of a trace once all of these names are among them; each hangs below another."""
    def there():
        return names <= {s.name for s in collector.of(trace)} and collector.of(trace)
    spans = eventually(f"spans {sorted(names)}", there)
    ids = {s.id for s in spans}
    check(len(ids) == len(spans), "an id came twice")
    for s in spans:
        check(s.parent in ids or s.parent == ABOVE, f"{s} hangs below nothing that came")
        check(s.begin <= s.end and abs(s.end / 1e9 - time.time()) < 300, f"{s}: its times")
    return {s.name: s for s in spans}, {s.id: s for s in spans}


def above(span, by_id):
    """The names from a span up to its request's."""
    names = []
    while span.parent in by_id:
        span = by_id[span.parent]
        names.append(span.name)
    return names


def push(base, headers, line=b'traced{from="me"} 1\n'):
    status, _, body = koa.http(f"{base}/api/v1/import/prometheus", line, headers)
    check(status == 204, f"{status} {body!r}")


def ask(base, headers):
    query = urllib.parse.urlencode({"query": 'sum by (n) (told{n="7"})'})
    status, _, body = koa.http(f"{base}/api/v1/query?{query}", headers=headers)
    check(status == 200 and json.loads(body)["data"]["result"], f"{status} {body[:300]!r}")


def test_a_push_and_a_query_are_followed_through_every_service(world):
    collector = Collector(world)
    ours = koa.Cluster(world, "--trace.otlp_url", collector.url)
    fill(ours)
    push(ours.push, {**SAMPLED, "X-Request-Id": "followed"})
    names, ids = whole(collector, TRACE, {"/api/v1/import/prometheus", "decode", "append", "apply"})
    request = names["/api/v1/import/prometheus"]
    check(request.parent == ABOVE and request.service == "doorman", f"{request}")
    check(request.attrs["koalemos.request_id"] == "followed" and
          request.attrs["http.response.status_code"] == 204, f"{request}")
    check(above(names["decode"], ids) == [request.name] and names["decode"].attrs["koalemos.samples"] == 1,
          f"{names['decode']}")
    check(above(names["apply"], ids) == ["append", request.name], f"{above(names['apply'], ids)}")
    check(names["apply"].service == "ingestor", f"{names['apply']}")
    for name in ("koalemos.partition", "koalemos.sequence"):
        check(names["apply"].attrs[name] == names["append"].attrs[name], f"{name} of append and apply")

    other = "a" * 32
    ask(ours.query, {"traceparent": f"00-{other}-{ABOVE}-01", "X-Scope-OrgID": "anonymous"})
    names, ids = whole(collector, other, {"/api/v1/query", "query", "plan", "fetch", "select", "evaluate"})
    check(above(names["select"], ids) == ["fetch", "query", "/api/v1/query"], f"{above(names['select'], ids)}")
    check(names["select"].service == "ingestor" and names["fetch"].service == "querier", f"{names}")
    check(above(names["evaluate"], ids) == ["query", "/api/v1/query"], f"{names['evaluate']}")
    check("told" in names["query"].attrs["koalemos.query"] and names["query"].attrs["koalemos.samples"] > 0,
          f"{names['query']}")


def test_a_message_over_nats_is_traced_as_a_push_over_http_is(world):
    import test_messages
    collector = Collector(world)
    ours = koa.Cluster(world, "--trace.otlp_url", collector.url)
    bus = test_messages.Nats(ours.nats_port)
    world.callback(bus.socket.close)
    status, words = bus.ask("koa.e2e.ingest.anonymous", b'traced{from="nats"} 1\n', Content_Type="text/plain",
                            **SAMPLED)
    check(status == 204, f"{status} {words}")
    names, ids = whole(collector, TRACE, {"message", "decode", "append", "apply"})
    check(names["message"].parent == ABOVE and above(names["apply"], ids) == ["append", "message"], f"{names}")


def test_a_push_over_grpc_is_traced_as_one_over_http_is(world):
    import os
    import test_otlp
    collector, port = Collector(world), koa.free_port()
    ours = koa.Serve(world, "--trace.otlp_url", collector.url, f"--otlp.grpc_listen=127.0.0.1:{port}")
    os.environ["KOA_TRACEPARENT"] = SAMPLED["traceparent"]
    try:
        test_otlp.export("grpc", f"http://127.0.0.1:{port}", "cumulative", "gzip", "traced")
    finally:
        del os.environ["KOA_TRACEPARENT"]
    eventually("three of them", lambda: len([s for s in collector.of(TRACE) if s.name == "Export"]) >= 3)
    names, ids = whole(collector, TRACE, {"Export", "decode", "append"})
    check(names["Export"].parent == ABOVE and names["Export"].attrs["koalemos.tenant"] == "traced", f"{names['Export']}")
    check(above(names["append"], ids) == ["Export"] and above(names["decode"], ids) == ["Export"], f"{names}")
    check(ours.process.stop() == 0, "it does not end well")


def test_nothing_is_traced_that_its_sender_does_not_sample_nor_is_drawn(world):
    collector = Collector(world)
    ours = koa.Serve(world, "--trace.otlp_url", collector.url)
    fill(ours)
    ask(ours.query, {"traceparent": f"00-{TRACE}-{ABOVE}-00"})
    ask(ours.query, {"traceparent": "nonsense"})
    ask(ours.query, SAMPLED)
    whole(collector, TRACE, {"/api/v1/query", "query", "fetch", "select"})
    check({s.trace for s in collector.spans} == {TRACE}, f"{collector.spans}")


def test_of_requests_without_a_trace_one_in_so_many_is_traced(world):
    collector = Collector(world)
    ours = koa.Serve(world, "--trace.otlp_url", collector.url, "--trace.sample_one_in=4")
    fill(ours)
    for _ in range(200):
        ask(ours.query, {})
    requests = lambda: [s for s in collector.spans if s.name == "/api/v1/query"]
    eventually("spans", requests)
    ours.process.stop()
    check(10 < len(requests()) < 120, f"{len(requests())} of 200 were traced")
    check(all(s.parent == "" for s in requests()), "a parent that nobody is")


def test_a_collector_that_is_away_costs_spans_and_nothing_else(world):
    collector = Collector(world)
    with open(world.path("token"), "w") as f:
        f.write("hush\n")
    ours = koa.Serve(world, "--trace.otlp_url", collector.url, "--trace.queue=16", "--trace.sample_one_in=1",
                     "--trace.token.file", world.path("token"))
    collector.answers = [503, 400]
    fill(ours)
    ask(ours.query, {})
    dropped = "koalemos_trace_spans_dropped_total"
    eventually("a batch is refused and counted", lambda: metric(ours.query, dropped) > 0)
    check(collector.seen >= 2 and collector.tokens == {"Bearer hush"}, f"{collector.seen} {collector.tokens}")
    check("hush" not in ours.process.words() and "are dropped" in ours.process.words(), "what the log says")
    eventually("spans leave again", lambda: ask(ours.query, {}) or collector.spans)
    collector.shutdown()
    collector.socket.close()
    for _ in range(50):
        ask(ours.query, {})
    check(metric(ours.query, dropped) > 0, "spans vanished uncounted")
    check(ours.process.stop(10) == 0, "it does not end without its collector")
