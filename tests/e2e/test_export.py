"""What is exported comes back: by our own import, by promtool, by whoever reads CSV."""
import csv
import http.server
import io
import json
import os
import random
import subprocess
import threading
import time

import koa
from koa import check
from test_generated import Asker, JITTER_MS, ROWS, STEP_MS, series_of
from test_import import first_difference, histogram_series, koalemos, push_all, rows_of

NAMES = ("cpu_total", "load", "holes", "info", "odd", "short", "no_labels", "lat_bucket")


def export(base, *flags, code=0):
    """(what was written, words)"""
    done = subprocess.run([os.path.join(koa.BIN, "koalemos"), "export", "--url", base, *flags], capture_output=True, timeout=300)
    words = done.stderr.decode()
    check(done.returncode == code, f"export {flags}: {done.returncode} {words}")
    return done.stdout.decode(), words


def everything(base, at, names=NAMES):
    ask, out = Asker(base), {}
    for name in names:
        status, answer = ask("query", query=f"{name}[2h]", time=at)
        check(status == 200, f"{name}: {answer}")
        out.update(rows_of(answer))
    return out


def test_exports_come_back_as_they_went_by_every_way(world):
    ours = koa.Serve(world)
    start_ms = int(time.time()) * 1000 - ROWS * STEP_MS - 120_000
    series = series_of(random.Random(7)) + [({"__name__": "odd", "text": 'a"b\\c\nd,\u00e4', "job": "x"}, [1.5] * ROWS)]
    push_all(ours.push, series, histogram_series(start_ms), start_ms)
    # What remote write 1 of Prometheus does not bring: custom bounds, a gauge, starts of counters, other NaNs.
    custom = {"schema": -53, "positiveSpans": [{"offset": 0, "length": 3}], "customValues": [-1.5, 0, 1e-7]}
    status, _, body = koa.http(f"{ours.push}/api/v1/import", json.dumps({
        "metric": {"__name__": "customs", "job": "x"}, "values": [1, "NaN(0xfff8000000000123)", "StaleNaN"],
        "timestamps": [start_ms, start_ms + 1, start_ms + 2], "starts": [start_ms - 5, 0, 0], "histograms": [
            dict(custom, timestamp=start_ms + 10, countInt="9", sum=-0.0, positiveDeltas=[4, -4, 5], startTimestamp=start_ms - 5),
            dict(custom, timestamp=start_ms + 11, countFloat=1e300, sum="Infinity", positiveCounts=[0.1, 5e-324, 1e300], resetHint="GAUGE"),
            {"timestamp": start_ms + 12, "countInt": 0, "sum": "StaleNaN"}]}).encode(), method="POST")
    check(status == 204, f"{status} {body!r}")
    status, _, body = koa.http(f"{ours.push}/api/v1/import", json.dumps({
        "metric": {"__name__": "nhcb", "job": 'a"b', "le": "own"}, "histograms": [
            {"schema": -53, "positiveSpans": [{"offset": 0, "length": 1}, {"offset": 2, "length": 2}], "customValues": [1, 2, 4.5, 1234567],
             "timestamp": start_ms + 20, "countInt": "12", "sum": 77.5, "positiveDeltas": [2, 1, 4]}]}).encode(), method="POST")
    check(status == 204, f"{status} {body!r}")
    ours.flush_all()
    span = ["--start", str(start_ms // 1000 - 60), "--end", str(start_ms // 1000 + 4000)]
    at = start_ms // 1000 + 4000
    before = everything(ours.query, at)
    hists = everything(ours.query, at, ("sizes", "sizes_float", "customs"))
    check(len(hists) == 5, list(hists))
    stored = sum(len(s) for s in before.values())

    # JSON lines: every bit comes back, stale markers too.
    lines, words = export(ours.query, *span)
    check("left out" not in words, words)
    other = koa.Serve(world, name="other", data=world.path("other"))
    status, _, body = koa.http(f"{other.push}/api/v1/import", lines.encode(), method="POST")
    check(status == 204, f"import: {status} {body!r}")
    after = everything(other.query, at)
    check(before == after, first_difference(before, after))
    after = everything(other.query, at, ("sizes", "sizes_float", "customs"))
    check(hists == after, first_difference(hists, after))
    again, words = export(other.query, *span)
    check(sorted(lines.splitlines()) == sorted(again.splitlines()), "what comes out again is not what went in")
    check('"NaN(0xfff8000000000123)","StaleNaN"]' in lines and '"sum":-0,' in lines and '"starts":[' in lines and
          '"countFloat":1e+300' in lines and '"resetHint":"GAUGE"' in lines, lines[-2000:])
    for q in ("count(holes)", "sum(rate(cpu_total[5m]))", "holes"):
        a, b = ([Asker(s.query)("query_range", query=q, start=start_ms // 1000, end=at, step=15)[1]["data"]] for s in (ours, other))
        check(a == b, f"{q}: {str(a)[:300]} / {str(b)[:300]}")

    # A backup holds all of it, too.
    koalemos(world, "backup", "--to", world.path("backup"), "--data-dir", world.path("data"))
    koalemos(world, "restore", "--from", world.path("backup"), "--data-dir", world.path("restored"))
    restored = koa.Serve(world, name="restored", data=world.path("restored"))
    again, words = export(restored.query, *span)
    check(sorted(lines.splitlines()) == sorted(again.splitlines()), "what a backup gives back is not what was there")

    # In small pieces it is the same, also where the server has little memory.
    small, words = export(ours.query, *span, "--slice", "137.5")
    third = koa.Serve(world, "--querier.memory_max", "24MiB", name="third", data=world.path("third"))
    status, _, body = koa.http(f"{third.push}/api/v1/import", small.encode(), method="POST")
    check(status == 204 and small.count("\n") > 5 * lines.count("\n"), f"{status} {body!r} {small.count(chr(10))}")
    check(everything(third.query, at) == before, "in pieces it is not the same")
    again, words = export(third.query, *span, "--match", '{__name__=~"lat.*",le="1"}')
    check(again.count("\n") == 4 and all('"le":"1"' in line for line in again.splitlines()), again[:500])

    # OpenMetrics: promtool makes blocks of it, and we take those. Stale markers have no place there.
    om, words = export(ours.query, *span, "--format", "openmetrics", "--slice", "1000")
    check(om.endswith("# EOF\n") and om.count("# EOF") == 1 and om.count("# TYPE cpu_total ") == 1, om[-200:])
    whole = koa.http(f"{ours.query}/api/v1/export/openmetrics?match[]=load&match[]=info&start={span[1]}&end={span[3]}")[2].decode()
    check(whole.endswith("# EOF\n") and whole.count("# TYPE") == 2 and whole.count("\n") == 3 + 8 * ROWS, whole[:300])
    with open(world.path("out.om"), "w") as f:
        f.write(om)
    done = subprocess.run([os.path.join(koa.PEERS, "promtool"), "tsdb", "create-blocks-from", "openmetrics", world.path("out.om"),
                           world.path("blocks")], capture_output=True, text=True)
    check(done.returncode == 0, done.stderr)
    koalemos(world, "import", "--prometheus", world.path("blocks"), "--data-dir", world.path("fourth"))
    fourth = koa.Serve(world, name="fourth", data=world.path("fourth"))
    after = everything(fourth.query, at)
    check(before == after, first_difference(before, after))

    # Native histograms of custom bounds are classic ones there; floats of the name stay what they are.
    exponential = sum(h.get("sum") != "StaleNaN" and h.get("schema") != -53 for line in lines.splitlines()
                      for h in json.loads(line).get("histograms", []))
    check(f" {exponential} native histograms left out: OpenMetrics has a place only for those whose bounds are their own" in words, words)
    ask, got = Asker(fourth.query), {}
    for name in ("customs_bucket", "customs_count", "customs_sum", "nhcb_bucket", "nhcb_count", "nhcb_sum"):
        for labels, rows in rows_of(ask("query", query=f"{name}[2h]", time=at)[1]).items():
            got[dict(labels)["le"] if "bucket" in name else name, "nhcb" in name] = rows
    t = [(start_ms + n) / 1000 for n in (10, 11, 20)]
    flat = {k: [(time, float(v)) for time, v in rows.items()] for k, rows in got.items()}
    check(flat == {("-1.5", False): [(t[0], 4), (t[1], 0.1)], ("0.0", False): [(t[0], 4), (t[1], 0.1)],
                   ("1e-07", False): [(t[0], 9), (t[1], 1e300)], ("+Inf", False): [(t[0], 9), (t[1], 1e300)],
                   ("customs_count", False): [(t[0], 9), (t[1], 1e300)],
                   ("customs_sum", False): [(t[0], 0), (t[1], float("inf"))],
                   ("1.0", True): [(t[2], 2)], ("2.0", True): [(t[2], 2)], ("4.5", True): [(t[2], 2)], ("1.234567e+06", True): [(t[2], 5)],
                   ("+Inf", True): [(t[2], 12)], ("nhcb_count", True): [(t[2], 12)], ("nhcb_sum", True): [(t[2], 77.5)]}, f"{got}")
    check("# TYPE nhcb histogram\n" in om and "# TYPE customs unknown\n" in om, "types")
    whole = koa.http(f"{ours.query}/api/v1/export/openmetrics?match[]=nhcb&start={span[1]}&end={span[3]}")[2].decode()
    check(whole.startswith("# TYPE nhcb histogram\nnhcb_bucket{job=\"a\\\"b\",le=\"1.0\"} 2 ") and whole.count("\n") == 1 + 7 + 1, whole)
    both = [Asker(s.query)("query", query=q, time=start_ms // 1000 + 60)[1]["data"]["result"] for s, q in (
        (ours, "histogram_quantile(0.3, nhcb)"), (fourth, "histogram_quantile(0.3, nhcb_bucket)"))]
    check(both[0][0]["value"] == both[1][0]["value"], f"{both}")

    # CSV.
    text, words = export(ours.query, *span, "--format", "csv", "--match", '{__name__=~"sizes.*"}', "--columns", "__timestamp__:unix_ms,__histogram__,__count__,__sum__,__value__")
    rows, of_json = list(csv.reader(io.StringIO(text, newline=""))), {}
    for line in lines.splitlines():
        for h in json.loads(line).get("histograms", []) if '"sizes' in line else []:
            of_json.setdefault(h["timestamp"], []).append(h)
    check(len(rows) == sum(map(len, of_json.values())) > 0 and "left out" not in words, f"{len(rows)} {words}")
    for time_ms, hist, count, total, value in rows:
        h = json.loads(hist)
        check(h["timestamp"] == time_ms and value == "" and float(count) == float(h.get("countInt", h.get("countFloat"))) and
              h in [dict(x, sum="NaN") if x.get("sum") == "StaleNaN" else x for x in of_json[time_ms]] and
              repr(float(total)) == repr(float(h.get("sum", 0))), f"{time_ms}: {hist} {count} {total}")
    text, words = export(ours.query, *span, "--format", "csv", "--header", "--columns",
                         "__name__,instance,text,__timestamp__:unix_ms,__value__")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    check(sum(r["__name__"] in NAMES for r in rows) >= stored, f"{len(rows)} rows, {stored} samples")
    check(f" {4 * ROWS + 4} native histograms left out: ask for a column __histogram__" in words, words)
    odd = [r for r in rows if r["text"]]
    check(len(odd) == ROWS and all(r["text"] == 'a"b\\c\nd,\u00e4' and float(r["__value__"]) == 1.5 and
                                   (int(r["__timestamp__:unix_ms"]) - start_ms - JITTER_MS) % STEP_MS == 0 for r in odd), odd[:2])

    # What cannot be is said.
    _, words = export(f"http://127.0.0.1:{koa.free_port()}", "--match", "up", "--tenant", "x", code=1)
    check("what was written is not all" in words, words)
    _, words = export(ours.query, "--match", "{{", code=1)
    check("match[]" in words, words)
    export(ours.query, "--format", "xml", code=2)
    export(ours.query, "--start", "yesterday", code=2)


def test_what_an_export_is_refused_with_names_the_server_and_not_its_password(world):
    says = {"status": 503}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(says["status"])
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"no, no"[:5])
        do_POST = do_GET

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port, secret = server.server_address[1], "pass-" + os.urandom(8).hex()
    url = f"http://somebody:{secret}@127.0.0.1:{port}"
    for status in (422, 500, 200, 503, 429):
        says["status"] = status
        if status in (503, 429):                       # it tries again, and that is enough of it
            with subprocess.Popen([os.path.join(koa.BIN, "koalemos"), "export", "--url", url], stderr=subprocess.PIPE, text=True) as p:
                words = p.stderr.readline()
                p.kill()
            check("; trying again" in words, words)
        else:
            _, words = export(url, "--match", "up", code=1)
        check(secret not in words and "somebody" not in words, words)
        check(f"http://***@127.0.0.1:{port}/api/v1/label/__name__/values" in words or status == 200, words)
    server.shutdown()
