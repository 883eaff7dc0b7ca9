"""Real clients of the query API: a Prometheus that reads us, promtool, vmalert with its rules."""
import json
import math
import os
import subprocess
import time

import koa
from koa import api, check, eventually, http, instant, one, push, same_vectors
from test_keys import Keys, bearer

STEP, COUNT = 15, 241


def load(base):
    """An hour of counters, a gauge, and values that are hard to carry; returns its end in seconds."""
    end = int(time.time())
    times = [(end - STEP * (COUNT - 1 - i)) * 1000 for i in range(COUNT)]
    hard = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1e-300, 1.5e300, 0.1, 1 / 3]
    series = [({"__name__": "cpu_seconds_total", "host": f"h{h}", "mode": m},
               [(t, i * STEP * (h + 1) / 10) for i, t in enumerate(times)])
              for h in range(30) for m in ("idle", "user")]
    series.append(({"__name__": "temperature", "room": "a \"b\"\n\u00e9"},
                   [(t, 20 + math.sin(i)) for i, t in enumerate(times)]))
    series.append(({"__name__": "hard"}, [(t, hard[i % len(hard)]) for i, t in enumerate(times)]))
    for i in range(0, len(series), 20):
        status, words = push(base, series[i:i + 20])
        check(status == 204, f"push: {status} {words}")
    return end


RANGES = ["temperature", "hard", "rate(cpu_seconds_total[2m1s])", "sum by (mode) (rate(cpu_seconds_total[5m1s]))",
          "cpu_seconds_total{host=~\"h1.*\",mode!=\"idle\"}", "max_over_time(temperature[10m1s])"]


def test_a_prometheus_that_reads_us_remotely_answers_as_we_do(world):
    ours = koa.Serve(world)
    end = load(ours.push)
    port = koa.free_port()
    with open(world.path("reader.yml"), "w") as f:
        f.write(f"global: {{}}\nremote_read:\n  - {{url: '{ours.query}/api/v1/read', read_recent: true}}\n")
    world.run("reader", os.path.join(koa.PEERS, "prometheus"), f"--config.file={world.path('reader.yml')}",
              f"--storage.tsdb.path={world.path('reader')}", f"--web.listen-address=127.0.0.1:{port}")
    reader = f"http://127.0.0.1:{port}"
    eventually("the reader", lambda: http(f"{reader}/-/ready")[0] == 200)

    def agree(when):
        for q in RANGES:
            a, b = (api(base, "query_range", query=q, start=end - 3600, end=end, step=STEP) for base in (ours.query, reader))
            check(len(a["result"]) > 0, f"{when}: {q}: nothing")
            # As text: every digit, NaN and -0 too. The reader's sums are the plain ones of 2.42.
            if "sum" in q or "rate" in q:
                close(a, b, f"{when}: {q}")
            else:
                check(a == b, f"{when}: {q}: ours {json.dumps(a)[:300]}, theirs {json.dumps(b)[:300]}")
    agree("live")
    ours.flush_all()
    agree("from filesets")


def close(a, b, what):
    table = lambda d: {tuple(sorted(s["metric"].items())) + (("time", t),): float(v)
                       for s in d["result"] for t, v in s["values"]}
    same_vectors(table(a), table(b), what, 1e-9)


def promtool(*args):
    p = subprocess.run([os.path.join(koa.PEERS, "promtool"), "query", *args], capture_output=True, text=True, timeout=60)
    check(p.returncode == 0, f"promtool query {args}: {p.stdout} {p.stderr}")
    return p.stdout


def test_promtool_asks_and_understands(world):
    ours = koa.Serve(world)
    end = load(ours.push)
    check(promtool("instant", "--time", str(end), ours.query, "count(cpu_seconds_total)").strip() == f"{{}} => 60 @[{end}]",
          "instant")
    got = promtool("range", "--start", str(end - 60), "--end", str(end), "--step", "15s", ours.query,
                   "sum by (mode) (cpu_seconds_total)")
    check(got.count("@[") == 10 and '{mode="idle"} =>' in got, f"range: {got}")
    check(promtool("labels", ours.query, "mode").split() == ["idle", "user"], "labels")
    check(promtool("series", "--match", "hard", ours.query).strip() == '{__name__="hard"}', "series")


def test_vmalert_evaluates_its_rules_on_us_with_a_key_for_that_and_writes_back(world):
    keys = Keys(world)
    rules, both = keys.new("rules", "team-a"), keys.new("read,write", "team-a")
    ours = koa.Serve(world, *keys.flags)
    http = koa.http
    koa.http = lambda url, data=None, headers=None, *a, **kw: http(url, data, {**(headers or {}), **bearer(both)}, *a, **kw)
    try:
        vmalert(world, ours, rules)
    finally:
        koa.http = http
    check(http(f"{ours.query}/api/v1/labels", headers=bearer(rules))[0] == 403, "what evaluates rules lists labels")
    check(http(f"{ours.push}/api/v1/import/prometheus", b"x 1\n", bearer(rules))[0] == 403, "and imports")


def vmalert(world, ours, key):
    load(ours.push)
    with open(world.path("rules.yml"), "w") as f:
        f.write("""
groups:
  - name: ours
    interval: 1s
    rules:
      - record: mode:cpu:sum
        expr: sum by (mode) (cpu_seconds_total)
      - alert: Hot
        expr: temperature > 0
      - alert: Cold
        expr: temperature < -100
""")
    port = koa.free_port()
    world.run("vmalert", os.path.join(koa.PEERS, "vmalert"), f"-rule={world.path('rules.yml')}",
              f"-datasource.url={ours.query}/prometheus", f"-remoteWrite.url={ours.push}", f"-remoteRead.url={ours.query}/prometheus",
              *(w for of in ("datasource", "remoteWrite", "remoteRead") for w in (f"-{of}.basicAuth.username=vmalert", f"-{of}.basicAuth.password={key}")),
              "-remoteWrite.flushInterval=500ms", "-notifier.url=http://127.0.0.1:9", f"-httpListenAddr=127.0.0.1:{port}")
    eventually("the recorded series is there", lambda: len(instant(ours.query, "mode:cpu:sum")) == 2, 60)
    sums = lambda q: {dict(k)["mode"]: v for k, v in instant(ours.query, q).items()}
    check(sums("mode:cpu:sum") == sums("sum by (mode) (cpu_seconds_total)"), "recorded is what is asked")
    eventually("the alert that is due fires", lambda: one(ours.query, 'ALERTS{alertname="Hot",alertstate="firing"}') == 1, 30)
    check(instant(ours.query, 'ALERTS{alertname="Cold"}') == {}, "the other does not")
