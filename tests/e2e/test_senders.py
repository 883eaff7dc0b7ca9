"""Real senders push values that we chose; PromQL must read back exactly those."""
import json
import os
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import koa
from koa import api, check, eventually, http, instant, one


def influx(ours, *args):
    """Debian's influx shell, one statement; what it printed."""
    host, port = ours.push.rsplit("//", 1)[1].split(":")
    done = subprocess.run([os.path.join(koa.PEERS, "influx"), "-host", host, "-port", port, *args],
                          capture_output=True, text=True, timeout=60)
    check(done.returncode == 0, f"influx {args}: {done.returncode} {done.stderr}")
    return done.stdout + done.stderr


def test_influx_shell_inserts_and_every_field_is_read_back(world):
    ours = koa.Serve(world)
    now = int(time.time())
    words = influx(ours, "-execute", "CREATE DATABASE mine") + influx(ours, "-database", "mine", "-execute",
        f'INSERT cpu\\ x,host=a\\,b,dc=eu load=1.25,n=-3i,ok=true,bad=F,note="a, b=1 c",value=1e-9 {now}000000000')
    check("ERR" not in words, words)
    words = influx(ours, "-precision", "ms", "-execute", f"INSERT mem free=18446744073709551615u {now * 1000 + 250}")
    check("ERR" not in words, words)
    got = instant(ours.query, '{__name__=~"cpu.*|mem.*"}', now + 1)
    labels = lambda name: tuple(sorted({"__name__": f"cpu x_{name}", "host": "a,b", "dc": "eu", "db": "mine"}.items()))
    want = {labels("load"): 1.25, labels("n"): -3.0, labels("ok"): 1.0, labels("bad"): 0.0, labels("value"): 1e-9,
            (("__name__", "mem_free"),): float(2**64 - 1)}
    check(got == want, f"{got} instead of {want}")
    check(one(ours.query, "timestamp(mem_free)", now + 1) == now + 0.25, "the time in milliseconds")
    words = influx(ours, "-execute", "INSERT mem free=oops")
    check("partial write: 1 refused" in words, f"a bad value: {words}")


class Exporter:
    """Something to scrape: what `text` says now."""

    def __init__(self, text):
        exporter = self
        self.text, self.scrapes = text, 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                exporter.scrapes += 1
                body = exporter.text.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_vmagent_scrapes_and_pushes_exact_values(world):
    ours = koa.Serve(world)
    exporter = Exporter("# TYPE temp gauge\n"
                        'temp{room="a \\"b\\"",n="1"} 21.625\ntemp{room="\u00fc"} -1e-300\ntemp{room="inf"} +Inf\n'
                        "# TYPE big counter\nbig_total 9007199254740993\n")
    port = koa.free_port()
    with open(world.path("scrape.yml"), "w") as f:
        f.write("global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: known\n  static_configs:\n"
                f'  - targets: ["127.0.0.1:{exporter.port}"]\n')
    world.run("vmagent", os.path.join(koa.PEERS, "vmagent"), f"-promscrape.config={world.path('scrape.yml')}",
              f"-remoteWrite.url={ours.push}/api/v1/write", f"-remoteWrite.tmpDataPath={world.path('vmagent')}",
              f"-httpListenAddr=127.0.0.1:{port}", "-remoteWrite.flushInterval=200ms")
    eventually("three scrapes have arrived",
               lambda: one(ours.query, 'count_over_time(big_total{job="known"}[5m])') >= 3)
    target = {"job": "known", "instance": f"127.0.0.1:{exporter.port}"}
    named = lambda name, **labels: tuple(sorted({"__name__": name, **labels, **target}.items()))
    want = {named("temp", room='a "b"', n="1"): 21.625, named("temp", room="\u00fc"): -1e-300,
            named("temp", room="inf"): float("inf"), named("big_total"): 9007199254740992.0}
    got = instant(ours.query, '{job="known",__name__=~"temp|big_total"}')
    check(got == want, f"{got} instead of {want}")
    exporter.text = exporter.text.replace("21.625", "22.5")
    eventually("the new value", lambda: 22.5 in instant(ours.query, 'temp{n="1"}').values())
    check(one(ours.query, 'up{job="known"}') == 1, "up")
    pushed = http(f"http://127.0.0.1:{port}/metrics")[2].decode()
    bad = [l for l in pushed.splitlines() if l.startswith("vmagent_remotewrite_requests_total") and '"2XX"' not in l
           or l.startswith("vmagent_remotewrite_packets_dropped_total")]
    check(all(float(l.rsplit(" ", 1)[1]) == 0 for l in bad), f"vmagent was refused: {bad}")


def test_newer_vmagent_is_told_that_zstd_is_taken(world):
    ours = koa.Serve(world)
    status, _, body = http(f"{ours.push}/api/v1/write?get_vm_proto_version=1")
    check((status, body) == (200, b"1"), f"{status} {body}")
    status, headers, _ = http(f"{ours.push}/api/v1/write")
    check(status == 405 and headers["Allow"] == "POST", f"GET of a write: {status}")
    body = koa.rw1_series({"__name__": "m"}, [(int(time.time() * 1000), 4.5)])
    # One zstd frame of one raw block (RFC 8878): single segment, 4 bytes of size.
    frame = b"\x28\xb5\x2f\xfd\xa0" + len(body).to_bytes(4, "little") + \
            (len(body) << 3 | 1).to_bytes(3, "little") + body
    status, _, words = http(f"{ours.push}/api/v1/write", frame, {**koa.RW1, "Content-Encoding": "zstd",
                            "X-VictoriaMetrics-Remote-Write-Version": "1"})
    check(status == 204, f"{status} {words}")
    check(one(ours.query, "m") == 4.5, "the value")


def test_openmetrics_created_is_when_counting_began(world):
    ours = koa.Serve(world)
    now = int(time.time())
    body = (f'# TYPE c counter\nc_total{{a="1"}} 30 {now}\nc_created{{a="1"}} {now - 30}.5\n'
            f'# TYPE h histogram\nh_bucket{{le="+Inf"}} 2 {now}\nh_count 2 {now}\nh_sum 3 {now}\nh_created {now - 10}\n'
            "# EOF\n")
    status, _, words = http(f"{ours.push}/api/v1/import/prometheus", body.encode(),
                            {"Content-Type": "application/openmetrics-text; version=1.0.0"})
    check(status == 204, f"{status} {words}")
    check(one(ours.query, "start_timestamp(c_total)", now) == now - 29.5, "the counter's start")
    check(one(ours.query, "increase(c_total[1m])", now) == 30, "all of it came since")
    for name in ("h_bucket", "h_count", "h_sum"):
        check(one(ours.query, f"start_timestamp({name})", now) == now - 10, f"the start of {name}")
    check(instant(ours.query, '{__name__=~".*_created"}', now) == {}, "no series of start times")


def export(base, tenant=None, **params):
    headers = {"X-Scope-OrgID": tenant} if tenant else {}
    query = "&".join(f"{k}={v}" for k, v in {"match[]": "{__name__!=%22%22}", **params}.items())
    status, _, body = http(f"{base}/api/v1/export?{query}", headers=headers)
    check(status == 200, f"export: {status} {body[:300]}")
    return sorted(body.decode().splitlines())


def test_what_is_exported_imports_and_exports_the_same(world):
    ours = koa.Serve(world, "--limits.past=0")
    now = int(time.time() * 1000)
    values = [0.0, -0.0, 1.5, 5e-324, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf"),
              0.1 + 0.2, 2.0**53 + 2, -123456789.123456789]
    series = [({"__name__": f"m{i}", "job": 'q"\\\n\t\u20ac', "n": str(i)},
               [(now - 10_000_000 + 1000 * k, values[(i + k) % len(values)]) for k in range(50 * i + 1)])
              for i in range(40)]
    status, words = koa.push(ours.push, series)
    check(status == 204, f"push: {status} {words}")
    first = export(ours.query)
    check(len(first) == len(series) and sum(len(json.loads(l)["values"]) for l in first) ==
          sum(len(s) for _, s in series), "the export has every sample")
    body = "\n".join(first).encode()
    status, _, words = http(f"{ours.push}/api/v1/import", body, {"X-Scope-OrgID": "other"})
    check(status == 204, f"import: {status} {words}")
    check(export(ours.query, "other") == first, "live, the second export differs from the first")
    ours.flush_all()
    check(export(ours.query, "other") == first, "from filesets, the second export differs from the first")


def test_csv_is_read_by_its_format(world):
    ours = koa.Serve(world)
    now = int(time.time())
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
    status, _, words = http(f"{ours.push}/api/v1/import/csv?format=1:label:ticker,2:metric:ask,3:metric:bid,"
                            "4:time:custom:2006-01-02%2015:04:05",
                            f'GOOG,1.25,4.5,{stamp}\n"A ""B"", C",2,,{stamp}\n'.encode())
    check(status == 204, f"{status} {words}")
    got = instant(ours.query, '{ticker!=""}', now + 1)
    want = {(("__name__", "ask"), ("ticker", "GOOG")): 1.25, (("__name__", "bid"), ("ticker", "GOOG")): 4.5,
            (("__name__", "ask"), ("ticker", 'A "B", C')): 2.0}
    check(got == want, f"{got} instead of {want}")
    check(one(ours.query, "timestamp(bid)", now + 1) == now, "the time")
