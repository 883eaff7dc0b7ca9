#!/usr/bin/env python3
"""What an aggregate costs a cell when the ingestors make it, and when the querier does.

    bench/pushdown.py --bin build/release/bin --peers build/peers/bin [--hosts 500] [--seconds 1.0] [--spread]

nats-server, a doorman, two ingestors and two queriers, one that pushes aggregates down and one that does not,
each a process. --hosts hosts of 8 modes are pushed, an hour of them, each 15 s; all stays in memory. Each class is
put to both queriers in turn, in three rounds: of each round the CPU of every process by itself, the bytes of the
pages that the querier got, and the time that a query took. The median round counts. The answers must be equal.
--spread: the metric lies in four partitions instead of one. Prints one JSON line a class and querier.
"""
import argparse
import json
import os
import random
import time
import urllib.parse

from hosts import STEP, cpu_seconds, load, modes_of     # first: it knows where koa is
import koa
from koa import metric
from koa_cell import Cell

ROUNDS = 3


def load_hosts(push, hosts, end_ms):
    draw = random.Random(7)
    times = [end_ms - (240 - 1 - i) * STEP * 1000 for i in range(240)]
    for begin in range(0, hosts, 25):
        load(push, [s for h in range(begin, min(begin + 25, hosts)) for s in modes_of(draw, h, times)])


def classes(end):
    rate = "sum by (mode) (rate(node_cpu_seconds_total[5m]))"
    return [
        ("sum by (mode) (rate[5m]), instant", "query", {"query": rate, "time": end}),
        ("the same, 50 min by 15 s", "query_range", {"query": rate, "start": end - 3000, "end": end, "step": 15}),
        ("the same, 50 min by 60 s", "query_range", {"query": rate, "start": end - 3000, "end": end, "step": 60}),
        ("count, instant", "query", {"query": "count(node_cpu_seconds_total)", "time": end}),
        ("sum by (instance) (rate[5m]), 50 min by 60 s", "query_range",
         {"query": "sum by (instance) (rate(node_cpu_seconds_total[5m]))", "start": end - 3000, "end": end, "step": 60}),
    ]


def ask(base, path, params):
    status, _, body = koa.http(f"{base}/api/v1/{path}?" + urllib.parse.urlencode(params), timeout=120)
    koa.check(status == 200, f"{path} {params}: {status} {body[:300]!r}")
    return body


def one_round(cell, process, base, path, params, seconds):
    who = {"querier": [process], "ingestors": list(cell.ingestors.values()), "nats": cell.nats}
    before = {k: sum(cpu_seconds(p) for p in v) * 1000 for k, v in who.items()}
    pages, begin, n = metric(base, "koalemos_querier_page_bytes_total"), time.monotonic(), 0
    while time.monotonic() - begin < seconds or n < 3:
        ask(base, path, params)
        n += 1
    out = {f"{k}_cpu_ms": (sum(cpu_seconds(p) for p in v) * 1000 - before[k]) / n for k, v in who.items()}
    out["cpu_ms"] = sum(out.values())
    out["ms"] = (time.monotonic() - begin) * 1000 / n
    out["bytes"] = (metric(base, "koalemos_querier_page_bytes_total") - pages) / n
    return out


def bench(world):
    cell = Cell(world, *ARGS.flags)
    fetches = cell.service("querier", "fetches", "--store.dir", world.path("store"), "--features.pushdown=0")
    koa.wait_ready(cell.url("fetches"), fetches)
    cell.settled(["ingestor-0", "ingestor-1"])
    last = int(time.time()) // STEP * STEP - STEP
    if ARGS.spread:                                    # it grows, is spread, and all of it comes after that
        def spread():
            now = int(time.time() * 1000)
            for i in range(0, 3000, 500):              # younger than what will be asked for
                status, words = koa.push(cell.push, [({"__name__": "node_cpu_seconds_total", "n": str(k)}, [(now, 1.0)])
                                                     for k in range(i, i + 500)])
                koa.check(status == 204, f"push: {status} {words}")
            told = koa.api(cell.query, "query_explain", query="node_cpu_seconds_total")["selectors"][0]
            return len(told["partitions"]) == 4
        koa.eventually("spread over four partitions", spread, 60, 0.5)
        time.sleep(4)                                  # it begins
    load_hosts(cell.push, ARGS.hosts, last * 1000)
    servers = [("pushed", cell.querier, cell.query), ("fetched", fetches, cell.url("fetches"))]
    for what, path, params in classes(last):
        answers = {json.dumps(json.loads(ask(base, path, params))["data"]) for _, _, base in servers}
        koa.check(len(answers) == 1, f"{what}: the answers differ")
        rounds = {name: [] for name, _, _ in servers}
        for _ in range(ROUNDS):
            for name, process, base in servers:
                rounds[name].append(one_round(cell, process, base, path, params, ARGS.seconds))
        for name, of in rounds.items():
            median = sorted(of, key=lambda r: r["cpu_ms"])[ROUNDS // 2]
            print(json.dumps({"class": what, "querier": name, **{k: round(v, 2) for k, v in median.items()}}), flush=True)
    refused = metric(cell.query, "koalemos_querier_pushdowns_refused_total")
    print(json.dumps({"pushed": metric(cell.query, "koalemos_querier_pushdowns_total"), "refused": refused}))


if __name__ == "__main__":
    args = argparse.ArgumentParser()
    args.add_argument("--bin", required=True)
    args.add_argument("--peers", required=True)
    args.add_argument("--hosts", type=int, default=500)
    args.add_argument("--seconds", type=float, default=1.0)
    args.add_argument("--spread", action="store_true")
    ARGS = args.parse_args()
    ARGS.flags = ["--placement.spread_series=1000", "--placement.spread_delay=1s", "--placement.spread_window=4s",
                  "--ingestor.census=500ms"] if ARGS.spread else []
    koa.BIN, koa.PEERS = os.path.abspath(ARGS.bin), os.path.abspath(ARGS.peers)
    with koa.World() as the_world:
        bench(the_world)
