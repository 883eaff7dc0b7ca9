"""Every endpoint of the query API: against Debian's Prometheus where it has it, else for its form."""
import csv
import io
import json
import os
import struct
import time
from urllib.parse import quote, urlencode

import koa
from koa import api, check, eventually, http, push

STEP, COUNT = 15, 81                                   # 20 minutes


def exemplar(labels, value, ms):
    pairs = b"".join(koa._field(1, koa._field(1, n.encode()) + koa._field(2, v.encode())) for n, v in labels.items())
    return koa._field(3, pairs + b"\x11" + struct.pack("<d", value) + b"\x18" + koa._varint(ms))


def load(bases):
    """The same to all; the last sample's time in ms."""
    end = int(time.time() * 1000) - 3000
    times = [end - STEP * 1000 * (COUNT - 1 - i) for i in range(COUNT)]
    series = [({"__name__": "cpu_seconds_total", "host": f"h{h}", "mode": m}, [(t, i * (h + 1) * 1.5) for i, t in enumerate(times)])
              for h in range(5) for m in ("idle", "user")]
    series += [({"__name__": "lat_bucket", "le": le}, [(t, float(i * n)) for i, t in enumerate(times)])
               for n, le in enumerate(("0.1", "1", "+Inf"), 1)]
    series.append(({"__name__": "odd", "text": "a \"b\"\\\n\u00e9<&>"}, [(t, [float("nan"), float("inf"), -1e300, 0.1][i % 4])
                                                                      for i, t in enumerate(times)]))
    body = b"".join(koa.rw1_series(*s) for s in series)
    body += koa._field(1, b"".join(koa._field(1, koa._field(1, n) + koa._field(2, v)) for n, v in
                                   ((b"__name__", b"with_exemplars"), (b"job", b"a"))) +
                       b"".join(koa._field(2, b"\x09" + struct.pack("<d", 1.0) + b"\x10" + koa._varint(t)) for t in times[-3:]) +
                       exemplar({"trace_id": "one"}, 0.25, times[-3]) + exemplar({"trace_id": "two"}, 7, times[-2] + 1))
    for base in bases:
        status, _, words = http(f"{base}/api/v1/write", koa.snappy(body), koa.RW1)
        check(status in (200, 204), f"push to {base}: {status} {words[:300]!r}")
    return end


def start_peer(world):
    port = koa.free_port()
    with open(world.path("peer.yml"), "w") as f:
        f.write("global: {}\n")
    world.run("peer", os.path.join(koa.PEERS, "prometheus"), f"--config.file={world.path('peer.yml')}",
              f"--storage.tsdb.path={world.path('peer')}", f"--web.listen-address=127.0.0.1:{port}",
              "--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage,promql-per-step-stats", "--log.level=error")
    base = f"http://127.0.0.1:{port}"
    eventually("the peer", lambda: http(f"{base}/-/ready")[0] == 200)
    return base


def answer(base, path, params=(), post=False):
    query = urlencode(list(params))
    if post:
        status, _, body = http(f"{base}/api/v1/{path}", query.encode(), {"Content-Type": "application/x-www-form-urlencoded"})
    else:
        status, _, body = http(f"{base}/api/v1/{path}?{query}")
    if status == 204:
        return status, {}
    try:
        return status, json.loads(body)
    except ValueError:
        raise koa.Failed(f"{path} {params}: {status} {body[:300]!r}")


def test_answers_and_errors_are_those_of_prometheus(world):
    ours, peer = koa.Serve(world), start_peer(world)
    end_ms = load([ours.push, peer])
    end, start = end_ms / 1000, end_ms / 1000 - 600
    m = "match[]"
    same = [
        ("query", [("query", "cpu_seconds_total"), ("time", end)]),
        ("query", [("query", "odd"), ("time", end)]),
        ("query", [("query", "odd[61s]"), ("time", end)]),
        ("query", [("query", "1"), ("time", "1970-01-01T00:01:00.5Z")]),
        ("query", [("query", '"a\\n"'), ("time", "12.345")]),
        ("query", [("query", "nothing"), ("time", end)]),
        ("query_range", [("query", "odd"), ("start", start), ("end", end), ("step", "15s")]),
        ("query_range", [("query", "sum by (mode) (cpu_seconds_total)"), ("start", start), ("end", end), ("step", 30)]),
        ("query_range", [("query", "nothing"), ("start", start), ("end", end), ("step", 30)]),
        ("labels", []), ("labels", [(m, "odd")]), ("labels", [(m, "odd"), (m, '{le!=""}')]), ("labels", [(m, "nothing")]),
        ("label/__name__/values", []), ("label/host/values", []), ("label/host/values", [(m, 'cpu_seconds_total{host=~"h[12]"}')]),
        ("label/text/values", []), ("label/nothing/values", []),
        ("series", [(m, "odd")]), ("series", [(m, "cpu_seconds_total"), (m, '{le="1"}')]), ("series", [(m, "nothing")]),
        ("series", [(m, "odd"), ("start", end + 100_000), ("end", end + 100_001)]),
        ("query_exemplars", [("query", "with_exemplars")]), ("query_exemplars", [("query", "rate(with_exemplars[1m]) + odd")]),
        ("query_exemplars", [("query", "with_exemplars"), ("start", end - 16), ("end", end)]),
        ("query_exemplars", [("query", "odd")]), ("query_exemplars", [("query", "1")]),
        ("format_query", [("query", "sum(rate( a[5m] offset 1h))by(x)/on(y)group_left b")]),
        ("rules", []), ("rules", [("type", "alert")]), ("alerts", []), ("alertmanagers", []), ("targets/metadata", []), ("metadata", []),
    ]
    for path, params in same:
        for post in (False, True) if path in ("query", "query_range", "labels", "series", "query_exemplars") else (False,):
            (a_status, a), (b_status, b) = answer(ours.query, path, params, post), answer(peer, path, params, post)
            if path in ("labels", "series", "query_exemplars", "query"):
                order = lambda x: json.dumps(x, sort_keys=True)
                for x in (a, b):
                    if isinstance(x.get("data"), list):
                        x["data"].sort(key=order)
                    elif isinstance(x.get("data"), dict) and isinstance(x["data"]["result"], list) and x["data"]["resultType"] == "vector":
                        x["data"]["result"].sort(key=order)
            if path == "query_exemplars" and b.get("data", 0) is None:
                b_status, b = 204, {}                  # what 3.x says of no selector
            check((a_status, a) == (b_status, b), f"{path} {params}: ours {a_status} {json.dumps(a)[:400]}, theirs {b_status} {json.dumps(b)[:400]}")

    # The sentences changed a little in 3.x: the kind and the status are what is compared.
    for path, params in [
        ("query", []), ("query", [("query", "sum(")]), ("query", [("query", "odd"), ("time", "soon")]), ("query", [("query", "odd"), ("timeout", "x")]),
        ("query", [("query", "cpu_seconds_total * on() lat_bucket"), ("time", end)]),
        ("query_range", [("query", "odd"), ("start", 2), ("end", 1), ("step", 1)]), ("query_range", [("query", "odd"), ("start", 1), ("end", 2), ("step", 0)]),
        ("query_range", [("query", "odd"), ("start", 1), ("end", 2)]), ("query_range", [("query", "odd"), ("start", 0), ("end", 1e6), ("step", 1)]),
        ("query_range", [("query", "odd[5m]"), ("start", 1), ("end", 2), ("step", 1)]),
        ("labels", [(m, "{}")]), ("labels", [(m, "a+b")]), ("labels", [("start", "x")]), ("series", []), ("series", [(m, '{a=""}')]),
        ("label/a-b/values", [(m, "{")]), ("query_exemplars", [("query", "odd"), ("start", 2), ("end", 1)]), ("query_exemplars", [("query", ")")]),
        ("format_query", [("query", "(")]), ("rules", [("type", "x")]), ("metadata", [("limit", "x")]),
    ]:
        (a_status, a), (b_status, b) = answer(ours.query, path, params), answer(peer, path, params)
        check((a_status, a["status"], a["errorType"]) == (b_status, b["status"], b["errorType"]) and a["error"],
              f"{path} {params}: ours {a_status} {a}, theirs {b_status} {b}")

    # Forms: what they have, we have.
    for path, params in (("status/buildinfo", []), ("status/runtimeinfo", []), ("status/config", []), ("status/tsdb", []), ("targets", []),
                         ("status/walreplay", [])):
        a, b = answer(ours.query, path, params)[1]["data"], answer(peer, path, params)[1]["data"]
        missing = b.keys() - a.keys() - {"storageRetention"}
        check(not missing, f"{path}: without {missing}")
    for text in ("sum(rate(cpu_seconds_total[1m1s]))", "cpu_seconds_total offset 1m", "timestamp(odd)", "absent_over_time(odd[46s])",
                 "max_over_time(cpu_seconds_total[46s] @ end())", "sum_over_time(sum(cpu_seconds_total)[3m1s:20s])", "odd @ start() + odd",
                 "histogram_quantile(0.5, rate(lat_bucket[1m1s]))", "cpu_seconds_total[61s]", "1"):
        for q in ("query", "query_range"):
            params = [("query", text), ("stats", "all"), ("time", end), ("start", start), ("end", end), ("step", 60)]
            (a_status, a), (b_status, b) = (answer(base, q, params) for base in (ours.query, peer))
            check(a_status == b_status, f"{q} {text}: {a_status} {b_status}")
            if a_status != 200:
                continue
            a, b = a["data"]["stats"], b["data"]["stats"]
            for count in ("totalQueryableSamples", "totalQueryableSamplesPerStep"):
                check(a["samples"][count] == b["samples"][count], f"{q} {text}: {count}: ours {a['samples']}, theirs {b['samples']}")
            check(a["timings"].keys() == b["timings"].keys(), f"timings: {a} {b}")
            check(a["samples"]["samplesRead"] == sum(n for _, n in a["samples"]["samplesReadPerStep"]) > 0 or text == "1", f"{q} {text}: {a}")
            check("@" in text or q == "query_range" or ":" in text or a["samples"]["samplesRead"] == a["samples"]["totalQueryableSamples"], f"{q} {text}: {a}")

    everything = quote('{__name__=~".+"}')
    a, b = (http(f"{base}/federate?match[]={everything}")[2].decode() for base in (ours.query, peer))
    lines = lambda text: sorted(line for line in text.splitlines())
    check(lines(a) == lines(b), f"/federate: only ours {sorted(set(lines(a)) - set(lines(b)))[:3]}, only theirs {sorted(set(lines(b)) - set(lines(a)))[:3]}")


def test_exemplars_come_from_heads_and_filesets_each_once(world):
    ours = koa.Serve(world)
    load([ours.push])
    live = api(ours.query, "query_exemplars", query="with_exemplars")
    check([e["labels"]["trace_id"] for e in live[0]["exemplars"]] == ["one", "two"], f"live: {live}")
    ours.flush_all()
    check(api(ours.query, "query_exemplars", query="with_exemplars") == live, "from a fileset")
    load([ours.push])
    both = api(ours.query, "query_exemplars", query='{__name__=~"with.*"} or x')
    check(len(both) == 1 and len(both[0]["exemplars"]) == 4, f"from both: {both}")
    check(api(ours.query, "query_exemplars", tenant="another", query="with_exemplars") == [], "another tenant's")


def lines_of(base, path, **params):
    status, headers, body = http(f"{base}/api/v1/{path}?{urlencode(params, doseq=True)}")
    check(status == 200 and headers["Content-Type"].startswith("application/x-ndjson"), f"{path} {params}: {status} {body[:300]!r}")
    return [json.loads(line) for line in body.decode().splitlines()]


def test_names_and_values_are_found_by_likeness(world):
    ours = koa.Serve(world)
    load([ours.push])
    base = ours.query
    names = lambda *lines: [r.get("name", r.get("value")) for line in lines for r in line["results"]]

    batch, trailer = lines_of(base, "search/metric_names")
    check(names(batch) == ["cpu_seconds_total", "lat_bucket", "odd", "with_exemplars"], f"all: {batch}")
    check(trailer == {"status": "success", "has_more": False}, f"{trailer}")
    *batches, trailer = lines_of(base, "search/metric_names", limit=3, batch_size=2)
    check([len(b["results"]) for b in batches] == [2, 1] and trailer["has_more"], f"{batches} {trailer}")
    batch, _ = lines_of(base, "search/metric_names", **{"search[]": ["cst"], "include_score": "true"})
    check(names(batch) == ["cpu_seconds_total"] and 0 < batch["results"][0]["score"] < 1, f"{batch}")
    batch, _ = lines_of(base, "search/metric_names", **{"search[]": ["od", "buck"], "sort_by": "score"})
    check(names(batch) == ["odd", "lat_bucket", "cpu_seconds_total"], f"{batch}")
    check(names(lines_of(base, "search/metric_names", **{"search[]": "CPU"})[0]) == [], "case counts")
    check(names(lines_of(base, "search/metric_names", **{"search[]": "CPU", "case_sensitive": "false"})[0]) == ["cpu_seconds_total"], "or not")
    check(names(lines_of(base, "search/metric_names", **{"search[]": "cup_secnds_total", "fuzz_alg": "jarowinkler", "fuzz_threshold": 80})[0])
          == ["cpu_seconds_total"], "Jaro-Winkler")
    check(names(lines_of(base, "search/label_names", **{"match[]": "odd"})[0]) == ["__name__", "text"], "names of labels")
    check(names(lines_of(base, "search/label_values", label="host", sort_by="alpha", sort_dir="dsc", limit=2)[0]) == ["h4", "h3"], "values, down")
    check(names(lines_of(base, "search/label_values", label="none")[0]) == [], "no values")
    check(names(lines_of(base, "search/metric_names", start=1, end=2)[0]) == [], "another time")
    for path, params in (("metric_names", {"fuzz_threshold": 101}), ("metric_names", {"fuzz_alg": "x"}), ("metric_names", {"sort_dir": "asc"}),
                         ("metric_names", {"sort_by": "score"}), ("metric_names", {"sort_by": "x"}), ("metric_names", {"limit": 0}),
                         ("metric_names", {"limit": 10**9}), ("metric_names", {"batch_size": -1}), ("metric_names", {"case_sensitive": "maybe"}),
                         ("metric_names", {"search[]": ["a"] * 33}), ("metric_names", {"start": 2, "end": 1}), ("label_values", {}),
                         ("metric_names", {"include_metadata": "x"}), ("label_names", {"match[]": "{"})):
        status, got = answer(base, f"search/{path}", [(k, v) for k, vs in params.items() for v in (vs if isinstance(vs, list) else [vs])])
        check(status == 400 and got["errorType"] == "bad_data" and got["error"], f"{path} {params}: {status} {got}")


def test_what_rivals_have_besides_is_there(world):
    ours = koa.Serve(world)
    end = load([ours.push])
    base = ours.query
    ours.flush_all()
    match = {"match[]": "cpu_seconds_total"}
    get = lambda path, **params: json.loads(http(f"{base}/api/v1/{path}?{urlencode(params)}")[2])
    blocks = get("status/tsdb/blocks")["data"]["blocks"]
    check(blocks and sum(b["stats"]["numSeries"] for b in blocks) == 15 and all(len(b["ulid"]) == 26 for b in blocks), f"blocks: {blocks}")
    check(json.loads(http(f"{base}/api/v1/status/tsdb/blocks", headers={"X-Scope-OrgID": "another"})[2])["data"]["blocks"] == [], "another tenant's blocks")
    got = get("status/tsdb", topN=2, focusLabel="host", **match)["data"]
    check(got["headStats"]["numSeries"] == 10 and len(got["labelValueCountByLabelName"]) == 2 and len(got["seriesCountByFocusLabelValue"]) == 2, f"{got}")
    check(get("status/tsdb", date="1999-01-01")["data"]["headStats"]["numSeries"] == 0, "a day long ago")
    rows = list(csv.reader(io.StringIO(http(f"{base}/api/v1/export/csv?" + urlencode(
        {"format": "__name__,mode,text,__value__,__timestamp__:unix_ms", "match[]": "odd"}))[2].decode())))
    check(len(rows) == COUNT and rows[-1][:3] == ["odd", "", "a \"b\"\\\n\u00e9<&>"] and int(rows[-1][4]) == end, f"csv: {rows[-1]}")
    lines = [json.loads(x) for x in http(f"{base}/api/v1/export?{urlencode(match)}")[2].decode().splitlines()]
    check(len(lines) == 10 and all(len(x["values"]) == len(x["timestamps"]) == COUNT for x in lines), "export")
    check(get("series/count", **match)["data"] == [10], "series/count")
    check(get("cardinality/label_names", selector="cpu_seconds_total")["label_names_count"] == 3, "cardinality/label_names")
    check(get("cardinality/label_values", **{"label_names[]": "host"})["labels"][0]["label_values_count"] == 5, "cardinality/label_values")
    check(len(get("cardinality/active_series", selector="lat_bucket")["data"]) == 3, "cardinality/active_series")
    check(get("user_stats")["numSeries"] == 15 and get("user_stats")["ingestionRate"] > 0, "user_stats")
    check("limits.series_max" in get("user_limits"), "user_limits")
    check(any(q["query"] == "count(odd)" for q in (koa.one(base, "count(odd)"), get("status/top_queries"))[1]["topByCount"]), "top_queries")
    check(get("status/active_queries") == {"status": "ok", "data": []}, "active_queries")
    check(get("status/flags")["data"]["querier.timeout"] == "2m", "flags")
    check("querier:" in get("status/config")["data"]["yaml"], "config")
    features = get("features")["data"]
    check(features["promql_functions"]["rate"] and features["promql_operators"]["limit_ratio"] and features["api"]["search"], "features")
    for path in ("targets", "targets/metadata", "scrape_pools", "alertmanagers", "rules", "alerts", "notifications"):
        check(get(path)["status"] == "success", path)

    plan = get("query_explain", query="sum(rate(cpu_seconds_total[5m]))", time=end / 1000)["data"]
    s = plan["selectors"][0]
    check(s["series"] == 10 and 200 <= s["samples"] <= 10 * COUNT and s["filesets"]["read"] == 1 and s["filesets"]["withoutMetric"] + s["filesets"]["read"] >= 1 and
          len(s["filesets"]["paths"]) == 1 and s["live"]["series"] == 0 and len(s["partitions"]) == 1 and s["partitionsOf"] == 16, f"{s}")
    check(all(op["nanoseconds"] > 0 and op["steps"] == 1 and op["series"] in (1, 10) for op in plan["operators"]), f"{plan['operators']}")
    text = http(f"{base}/api/v1/query_explain?{urlencode(dict(query='odd', format='text', time=end / 1000))}")
    check(text[0] == 200 and b"1 of 16 partitions" in text[2], f"{text[2]}")


def test_forms_prefixes_tenants_limits_and_unknown_paths(world):
    ours = koa.Serve(world)
    end = load([ours.push]) / 1000
    base = ours.query
    check(http(f"{base}/prometheus/api/v1/query?query=1")[0] == 200 and http(f"{base}/prometheus/federate")[0] == 200, "below /prometheus")
    for path in ("api/v1/nothing", "api/v2/query", "api/v1/admin/nothing", "api/v1/search/nothing", "api/v1/status", "api/v1/koalemos/nothing"):
        check(http(f"{base}/{path}")[0] == 404, path)
    check(http(f"{base}/api/v1/query?query=1", method="DELETE")[0] == 405, "another method")
    status, headers, _ = http(f"{base}/api/v1/query", method="OPTIONS", headers={"Origin": "http://x"})
    check(status == 204 and headers["Access-Control-Allow-Origin"] == "*", f"OPTIONS: {status} {headers}")

    def limited(path, count_of, **params):
        for limit in (1, 0):
            _, got = answer(base, path, [*params.items(), ("limit", limit)])
            check((count_of(got["data"]) == 1) == (limit == 1) and got.get("warnings", []) == ["results truncated due to limit"] * limit,
                  f"{path} limit {limit}: {json.dumps(got)[:300]}")
    limited("query", lambda d: len(d["result"]), query="cpu_seconds_total", time=end)
    limited("query_range", lambda d: len(d["result"]), query="cpu_seconds_total", start=end - 60, end=end, step=15)
    limited("labels", len)
    limited("series", len, **{"match[]": "cpu_seconds_total"})
    limited("label/host/values", len)
    check(answer(base, "label/U__host/values")[1]["data"] == ["h0", "h1", "h2", "h3", "h4"], "U__")
    check(koa.push(base, [({"__name__": "utf", "a.b": "x"}, [(int(end * 1000), 1.0)])])[0] == 204, "push")
    check(answer(base, "label/U__a_2e_b/values")[1]["data"] == ["x"], "U__ of a dot")
    old = dict(query="odd", time=end + 400)
    check(api(base, "query", **old)["result"] == [] and len(api(base, "query", **old, lookback_delta="10m")["result"]) == 1, "lookback_delta")
    check(answer(base, "query", [("query", "1"), ("partial_response", "false")])[0] == 200, "partial_response")
    check(answer(base, "query", [("query", "1")])[1]["data"].get("stats") is None, "no stats unasked")
    text = http(f"{base}/api/v1/openapi.yaml")[2].decode()
    paths = [line.strip(' ":') for line in text.splitlines() if line.startswith('  "/')]
    check(text.startswith("openapi: 3.1.0") and len(paths) == len(set(paths)) >= 40, f"{len(paths)} paths")
    for path in paths:                                 # what it tells of is there, below both prefixes
        for prefix in ("/api/v1", "/prometheus/api/v1"):
            check(http(f"{base}{prefix}{path.replace('{name}', 'a')}", method="OPTIONS")[0] == 204, f"{prefix}{path}")


TEXT = """# HELP up Whether it is up.
# TYPE up gauge
up 1
# HELP jobs_total Jobs done.
# TYPE jobs_total counter
jobs_total 5
"""


def test_metadata_is_told_from_heads_and_from_filesets(world):
    ours = koa.Serve(world)
    status, _, words = http(f"{ours.push}/api/v1/import/prometheus", TEXT.encode())
    check(status == 204, f"{status} {words[:300]!r}")

    def told(when):
        data = api(ours.query, "metadata")
        check(data == {"up": [{"type": "gauge", "help": "Whether it is up.", "unit": ""}],
                       "jobs_total": [{"type": "counter", "help": "Jobs done.", "unit": ""}]} or
              {k.removesuffix("_total"): v[0]["type"] for k, v in data.items()} == {"up": "gauge", "jobs": "counter"}, f"{when}: {data}")
        check(list(api(ours.query, "metadata", metric="up")) == ["up"] and len(api(ours.query, "metadata", limit=1)) == 1, f"{when}: one")
        check(api(ours.query, "metadata", metric="none") == {}, f"{when}: none")
        found = lines_of(ours.query, "search/metric_names", **{"search[]": "up", "include_metadata": "1"})[0]["results"][0]
        check(found == {"name": "up", "type": "gauge", "help": "Whether it is up."}, f"{when}: {found}")
        check(api(ours.query, "metadata", tenant="another") == {}, f"{when}: another tenant's")
    told("live")
    ours.flush_all()
    ours.process.kill()
    ours.process.start()
    ours.ready()
    told("from filesets, after a restart")


def test_who_may_reload_and_quit_is_an_option(world):
    closed = koa.Serve(world, name="closed", data=world.path("closed"))
    for path in ("quit", "reload"):
        check(http(f"{closed.query}/-/{path}", b"", method="POST")[0] == 403, f"/-/{path} where it is closed")
    check(koa.one(closed.query, "vector(1)") == 1, "it goes on")
    with open(world.path("open.yml"), "w") as f:
        f.write("http: {lifecycle: true}\n")
    opened = koa.Serve(world, "--config", world.path("open.yml"), name="opened", data=world.path("opened"))
    check(http(f"{opened.query}/-/reload", b"", method="POST")[0] == 200, "a reload of what it has")
    with open(world.path("open.yml"), "a") as f:
        f.write("ingestor: {window: 1h}\n")
    status, _, words = http(f"{opened.query}/-/reload", b"", method="POST")
    check(status == 409 and b"ingestor.window" in words, f"a reload of what it cannot take: {status} {words!r}")
    check(http(f"{opened.query}/-/quit", b"", method="POST")[0] == 200, "/-/quit")
    check(opened.process.ended() == 0, "it ends well")
