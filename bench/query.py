#!/usr/bin/env python3
"""What a query costs a server, in CPU milliseconds of the whole process, class by class.

    bench/query.py --bin build/release/bin [--peers build/peers/bin] [--hours 6] [--seconds 1.0]

The same made-up data is pushed to each server by remote write 1.0: 200 hosts of 8 modes, histograms
of 100 instances, a label with 10,000 values, all each 15 s. Then all servers stand side by side, and
each class is asked of one after another over one connection, five rounds of --seconds / 5: so each has
the same neighbours. The median round counts. Koalemos is there twice: live, and after a flush to
filesets. Queries end between two samples, as Prometheus 2 counts the one at a range's beginning and
3 does not. The sizes of results must agree. Caches of results are off, ours and VictoriaMetrics': a cache is
not an evaluation. Prints one JSON line a class, and the geometric mean of our share of the better peer's CPU.
"""
import argparse
import http.client
import json
import math
import os
import random
import time
import urllib.parse

from hosts import STEP, cpu_seconds, load, modes_of     # first: it knows where koa is
import koa
import others

ROUNDS = 5
HOSTS = 200
BOUNDS = ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"]


def series(end_ms, hours):
    """(labels, per-step increments) of every series; increments are shared to keep this quick."""
    draw = random.Random(7)
    steps = hours * 3600 // STEP
    times = [end_ms - (steps - 1 - i) * STEP * 1000 for i in range(steps)]
    for h in range(HOSTS):
        host = {"instance": f"host-{h}:9100", "job": "node"}
        yield from modes_of(draw, h, times)
        yield {"__name__": "node_uname_info", "nodename": f"node{h}", "release": "6.1.0", **host}, [(t, 1.0) for t in times]
    late = times[-240:]
    for i in range(100):
        counts = [0] * len(BOUNDS)
        columns = [[] for _ in BOUNDS]
        for t in late:
            for b in range(len(BOUNDS)):
                counts[b] += draw.randrange(b + 1)
            total = 0
            for b in range(len(BOUNDS)):
                total += counts[b]
                columns[b].append((t, float(total)))
        for b, column in zip(BOUNDS, columns):
            yield {"__name__": "request_duration_seconds_bucket", "le": b, "job": "api", "instance": f"api-{i}"}, column
    for i in range(10_000):
        yield {"__name__": "http_requests_total", "job": "web", "path": f"/api/v{i % 3}/thing/{i:05d}"}, [(t, float(i)) for t in late[-4:]]


def classes(last):
    rate = "sum by (mode) (rate(node_cpu_seconds_total[5m]))"
    end = last + 5
    span = lambda hours, step: {"start": end - hours * 3600, "end": end, "step": step}
    at = {"time": end}
    return [
        ("one series, 1 h", "query_range", {"query": 'node_cpu_seconds_total{instance="host-7:9100",mode="idle"}', **span(1, 15)}),
        ("sum by (mode) (rate), instant", "query", {"query": rate, **at}),
        ("sum by (mode) (rate), 1 h", "query_range", {"query": rate, **span(1, 15)}),
        ("sum by (mode) (rate), 6 h", "query_range", {"query": rate, **span(6, 60)}),
        ("topk of a rate, 1 h", "query_range", {"query": "topk(5, sum by (instance) (rate(node_cpu_seconds_total{mode!=\"idle\"}[5m])))", **span(1, 60)}),
        ("histogram_quantile, 1 h", "query_range", {"query": "histogram_quantile(0.99, sum by (le) (rate(request_duration_seconds_bucket[5m])))", **span(1, 15)}),
        ("regex on 10,000 values", "query", {"query": 'count(http_requests_total{path=~"/api/v1/.*7.*"})', **at}),
        ("join with group_left", "query", {"query": "node_cpu_seconds_total * on (instance) group_left (nodename) node_uname_info", **at}),
        ("count of everything", "query", {"query": 'count({__name__=~".+"})', **at}),
        ("label values", "label/instance/values", {"start": end - 3600, "end": end}),
        ("series", "series", {"match[]": 'node_cpu_seconds_total{mode="idle"}', "start": end - 3600, "end": end}),
    ]


def size_of(body):
    data = json.loads(body)
    koa.check(data["status"] == "success", f"{body[:300]!r}")
    data = data["data"]
    if isinstance(data, list):
        return len(data)
    return [len(data["result"]), sum(len(s.get("values", [0])) for s in data["result"])]


class Server:
    def __init__(self, name, process, port, extra):
        self.name, self.process, self.extra = name, process, extra
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, path, params):
        self.connection.request("GET", f"/api/v1/{path}?" + urllib.parse.urlencode({**params, **self.extra}))
        r = self.connection.getresponse()
        body = r.read()
        koa.check(r.status == 200, f"{self.name}: {path}: {r.status} {body[:300]!r}")
        return body

    def measure(self, path, params, seconds):
        begin, before, n = time.monotonic(), cpu_seconds(self.process), 0
        while time.monotonic() - begin < seconds or n < 2:
            self.ask(path, params)
            n += 1
        return (cpu_seconds(self.process) - before) * 1000 / n


def compare(servers, end, seconds, ours):
    """One line a class; our shares of the better peer."""
    shares = {name: [] for name in ours}
    for what, path, params in classes(end):
        sizes = {s.name: size_of(s.ask(path, params)) for s in servers}
        for s in servers:
            s.ask(path, params)
        rounds = [{s.name: s.measure(path, params, seconds / ROUNDS) for s in servers} for _ in range(ROUNDS)]
        cpu = {s.name: sorted(r[s.name] for r in rounds)[ROUNDS // 2] for s in servers}
        line = {"class": what, **{name: {"cpu_ms": round(ms, 3), "size": sizes[name]} for name, ms in cpu.items()}}
        line["sizes_agree"] = len({json.dumps(size) for size in sizes.values()}) == 1
        peers = [ms for name, ms in cpu.items() if name not in ours]
        for name in ours if peers else ():
            shares[name].append(cpu[name] / min(peers))
            line[f"{name}: share"] = round(shares[name][-1], 3)
        print(json.dumps(line), flush=True)
    return shares


def start_koalemos(w, data):
    s = koa.Serve(w, "--querier.results_cache_max", "0")
    load(s.push, data)
    return s


def start_victoria(w, peers, data):
    v, port = others.victoria(w, peers, "-search.disableCache", "-search.latencyOffset=0")
    load(f"http://127.0.0.1:{port}", data)
    return Server("victoria-metrics", v, port, {"nocache": "1"})


def start_prometheus(w, peers, data):
    v, port = others.prometheus(w, peers)
    load(f"http://127.0.0.1:{port}", data)
    return Server("prometheus", v, port, {})


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--peers")
    p.add_argument("--hours", type=int, default=6)
    p.add_argument("--seconds", type=float, default=1.0)
    a = p.parse_args()
    koa.BIN = os.path.abspath(a.bin)
    end = int(time.time()) // STEP * STEP - 60
    data = list(series(end * 1000, a.hours))
    print(json.dumps({"series": len(data), "samples": sum(len(s) for _, s in data)}), flush=True)
    with koa.World() as live_world, koa.World() as stored_world, koa.World() as vm, koa.World() as prom:
        live, stored = start_koalemos(live_world, data), start_koalemos(stored_world, data)
        stored.flush_all()
        servers = [Server("koalemos, live", live.process, live.port, {}),
                   Server("koalemos, filesets", stored.process, stored.port, {})]
        ours = [s.name for s in servers]
        if a.peers:
            peers = os.path.abspath(a.peers)
            servers += [start_victoria(vm, peers, data), start_prometheus(prom, peers, data)]
        time.sleep(5)                                  # what they still do with what was pushed
        shares = compare(servers, end, a.seconds, ours)
    for name, list_ in shares.items():
        if list_:
            print(json.dumps({"geometric mean of shares": name, "is": round(math.exp(sum(map(math.log, list_)) / len(list_)), 3),
                              "largest": round(max(list_), 3)}), flush=True)


if __name__ == "__main__":
    main()
