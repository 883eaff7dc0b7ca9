"""Rollups: the same answers from rows as from samples where they are exact, and who reads near ones is told."""
import glob
import json
import os
import shutil
import subprocess
import time
import urllib.parse

import koa
from koa import api, check, eventually, http
from test_import import histogram

STEP = 15_000
FLAGS = ("--ingestor.window", "2h", "--ingestor.cut_delay", "1s", "--compaction.window", "2h", "--rollup.5m", "1000h",
         "--rollup.1h", "1000h", "--partitions", "2")


def value(t, m, s):
    if (t // STEP + s) % 97 == 5:
        return float("nan") if s == 3 else -0.0
    return ((t // STEP) * 7919 % 10007) / 8 * (m + 1) - s * 100


def load(base, begin, end):
    for at in range(begin, end, 600_000):
        batch = []
        for m in range(3):
            for s in range(5):
                points = [(t, value(t, m, s)) for t in range(at + 15_000 * (s % 2), min(at + 600_000, end), STEP)
                          if not (s == 4 and t // 3600_000 % 3 == 0)]
                if points:
                    batch.append(({"__name__": f"rolled_{m}", "job": f"j{s % 2}", "series": str(s)}, points))
        batch.append(({"__name__": "steady_total"}, [(t, 1e6 + (t - begin) / 1000) for t in range(at, min(at + 600_000, end), STEP)]))
        times = range(at, min(at + 600_000, end), 60_000)
        n = [(t - begin) // 60_000 for t in times]     # a reset in the middle
        n = [k if k < 300 else k - 299 for k in n]
        batch.append(({"__name__": "native"}, [], b"".join(
            histogram(t, [k * 3, k, 2 * k, 1, k, 0, 5], [k, 1, 1, 2], k, k * 0.5) for t, k in zip(times, n, strict=True))))
        status, words = koa.push(base, batch)
        check(status == 204, f"push: {status} {words}")


def ask(base, path, **params):
    status, _, body = http(f"{base}/api/v1/{path}?{urllib.parse.urlencode(params)}")
    answer = json.loads(body)
    check(status == 200 and not answer.get("warnings"), f"{path} {params}: {status} {body[:500]!r}")
    return answer["data"]["result"], answer.get("infos", [])


def rolled(base):
    blocks = api(base, "status/tsdb/blocks")["blocks"]
    return [b for b in blocks if b.get("resolution")], [b for b in blocks if not b.get("resolution")]


def questions(begin, end):
    """(expression, step in s): over times and ranges that are multiples of five minutes, or of an hour."""
    for fold in ("min", "max", "count", "last", "first", "present"):
        if fold == "first":
            continue                                   # an experimental function: off
        for window, step in (("5m", 300), ("15m", 900), ("1h", 3600), ("2h", 3600), ("1h", 300)):
            yield f"{fold}_over_time(rolled_1[{window}])", step
        yield f"sum by (job) ({fold}_over_time({{__name__=~'rolled_[02]'}}[1h] offset 1h))", 3600
    yield "max_over_time(rolled_0[1h]) - min_over_time(rolled_2[1h])", 3600
    yield "quantile(0.5, count_over_time(rolled_0[2h]))", 3600


def test_rows_answer_as_samples_do_where_they_are_exact(world):
    ours = koa.Serve(world, *FLAGS)
    end = int(time.time()) // 7200 * 7200_000
    begin = end - 12 * 3600_000
    load(ours.push, begin, end)
    ours.flush_all()
    rolls, blocks = eventually("rollups of all windows", lambda: (lambda r: r if len(r[1]) >= 6 and len(r[0]) == 2 * len(r[1])
                                                                   else None)(rolled(ours.query)), 240)
    check({b["resolution"] for b in rolls} == {300_000, 3600_000}, f"{rolls}")
    at = {"start": (begin + 3 * 3600_000) // 1000, "end": end // 1000 - 3600}
    for query, step in questions(begin, end):
        rows, infos = ask(ours.query, "query_range", query=query, step=step, **at)
        raw, none = ask(ours.query, "query_range", query=query, step=step, max_source_resolution="0", **at)
        check(len(raw) > 0 and rows == raw, f"{query} step {step}: {json.dumps(rows)[:400]} is not {json.dumps(raw)[:400]}")
        check(any("in place of samples; this is exact" in i for i in infos), f"{query} step {step}: {infos}")
        check(not none, f"{query}: {none}")

    # What is not exact is not read unless it is allowed, and then it is said.
    for query, step, shift in (("sum_over_time(rolled_1[1h])", 3600, 0), ("max_over_time(rolled_1[1h])", 3600, 7),
                               ("max_over_time(rolled_1[7m])", 300, 0), ("max_over_time(rolled_1[1h])", 77, 0)):
        span = {"start": at["start"] + shift, "end": at["end"] + shift}
        rows, infos = ask(ours.query, "query_range", query=query, step=step, **span)
        raw, _ = ask(ours.query, "query_range", query=query, step=step, max_source_resolution="0", **span)
        check(rows == raw and not infos, f"{query} step {step}: {infos}")
    rows, infos = ask(ours.query, "query_range", query="sum_over_time(rolled_1[1h])", step=3600,
                      max_source_resolution="5m", **at)
    raw, _ = ask(ours.query, "query_range", query="sum_over_time(rolled_1[1h])", step=3600, max_source_resolution="0", **at)
    check(any("rows of 5 minutes" in i and "near" in i for i in infos), f"{infos}")
    for a, b in zip(rows, raw, strict=True):
        check(a["metric"] == b["metric"] and len(a["values"]) == len(b["values"]), "sums: other series or times")
        for (t, x), (u, y) in zip(a["values"], b["values"], strict=True):
            check(t == u and koa.close_to(float(x), float(y), 1e-12), f"sum at {t}: {x}, not {y}")
    # Rates: of values that are added exactly they are the same where ranges end with rows; else near, by what is said.
    for query, step, most in (("rate(rolled_1[15m])", 900, "5m"), ("sum by (job) (increase(rolled_0[2h]))", 3600, "1h"),
                              ("increase(rolled_2[1h] offset 1h)", 3600, "1h"),
                              ("rate(rolled_0[2h]) / rate(rolled_2[1h])", 3600, "5m"), ("rate(native[1h])", 3600, "5m"),
                              ("histogram_quantile(0.9, increase(native[2h]))", 3600, "5m")):
        rows, infos = ask(ours.query, "query_range", query=query, step=step, max_source_resolution=most, **at)
        raw, none = ask(ours.query, "query_range", query=query, step=step, **at)
        check(len(raw) > 0 and rows == raw, f"{query}: {json.dumps(rows)[:400]} is not {json.dumps(raw)[:400]}")
        check(any("rate or increase read rows of" in i and "this is exact" in i for i in infos) and
              not any("rows" in i for i in none), f"{query}: {infos} {none}")
    query, span = "rate(steady_total[47m])", {"start": at["start"] + 77, "end": at["end"] - 100}
    rows, infos = ask(ours.query, "query_range", query=query, step=433, max_source_resolution="5m", **span)
    raw, _ = ask(ours.query, "query_range", query=query, step=433, **span)
    check(any("rows of 5 minutes in place of samples: near by at most" in i for i in infos), infos)
    check(len(rows) == len(raw) == 1 and all(t == u and koa.close_to(float(x), float(y), 1e-9) for (t, x), (u, y) in
                                             zip(rows[0]["values"], raw[0]["values"], strict=True)), f"{rows} {raw}")
    for query in ("rate(rolled_1[9m])", "irate(rolled_1[1h])", "delta(rolled_1[1h])"):
        _, infos = ask(ours.query, "query_range", query=query, step=3600, max_source_resolution="5m", **at)
        check(not any("rows" in i for i in infos), f"{query}: {infos}")

    status, _, body = http(f"{ours.query}/api/v1/query?query=up&max_source_resolution=often")
    check(status == 400 and b"max_source_resolution" in body, f"{status} {body!r}")

    # A late sample, live and then in a fileset of its own: what the rows no longer tell, samples do.
    late = (end - 5 * 3600_000) + 1234
    check(koa.push(ours.push, [({"__name__": "rolled_1", "job": "j1", "series": "1"}, [(late, 1e9)])])[0] == 204, "push")
    for when in ("live", "flushed"):
        if when == "flushed":
            ours.flush_all()
        for query in ("max_over_time(rolled_1[1h])", "count_over_time(rolled_1[2h])"):
            rows, _ = ask(ours.query, "query_range", query=query, step=3600, **at)
            raw, _ = ask(ours.query, "query_range", query=query, step=3600, max_source_resolution="0", **at)
            check(rows == raw, f"{when}: {query}")
            check("max" not in query or "1000000000" in json.dumps(rows), f"{when}: {query}: the late sample is not there")

    # A deletion hides in rows what it hides in samples.
    status, _, body = http(f"{ours.query}/api/v1/admin/tsdb/delete_series?" + urllib.parse.urlencode(
        [("match[]", "{series='2'}"), ("start", str((end - 8 * 3600_000) // 1000 + 100)),
         ("end", str((end - 4 * 3600_000) // 1000))]), b"", method="POST")
    check(status == 204, f"delete: {status} {body!r}")
    for when in ("deleted", "cleaned"):
        if when == "cleaned":
            status, _, body = http(f"{ours.query}/api/v1/admin/tsdb/clean_tombstones", b"", method="POST")
            check(status == 204, f"clean: {status} {body!r}")
        for query, step in (("count_over_time(rolled_2[1h])", 3600), ("max_over_time(rolled_0[15m])", 900)):
            rows, _ = ask(ours.query, "query_range", query=query, step=step, **at)
            raw, _ = ask(ours.query, "query_range", query=query, step=step, max_source_resolution="0", **at)
            check(rows == raw, f"{when}: {query}")


RULES = """
retention_rules:
  - {match: 'rolled_1{series="0"}', keep: 3h, keep_1h: 1000h}
  - {match: 'rolled_2', keep: 1000h, keep_5m: 1m}
"""


def test_rows_are_kept_longer_than_samples_or_shorter_as_rules_say(world):
    with open(world.path("rules.yaml"), "w") as f:
        f.write(RULES)
    # Three hours begin anew with the clock: what went stays gone, and nothing is read that is about to go.
    end = int(time.time()) // 7200 * 7200_000
    begin, old = end - 12 * 3600_000, end - 4 * 3600_000
    at = {"start": begin // 1000 + 3600, "end": old // 1000 - 3600}
    ours = koa.Serve(world, "--config", world.path("rules.yaml"), *FLAGS)
    load(ours.push, begin, end)
    ours.flush_all()
    one, two = 'rolled_1{series="0"}', "rolled_2"

    def samples(of):
        return ask(ours.query, "query_range", query=f"count_over_time({of}[1h])", step=3600, max_source_resolution="0", **at)[0]

    def rows(fold, of, **how):
        return ask(ours.query, "query_range", query=f"{fold}_over_time({of}[1h])", step=3600, **{**at, **how})

    def want(fold, s):
        """Of hours (t - 1h, t]."""
        out = []
        for t in range(at["start"] * 1000, at["end"] * 1000 + 1, 3600_000):
            v = [value(x, 1, s) for x in range(max(t - 3600_000 + STEP, begin), t + 1, STEP)]
            out.append([t // 1000, float(len(v) if fold == "count" else max(v))])
        return out

    def are(answer, expected):
        return [[t, float(v)] for s in answer for t, v in s["values"]] == expected
    eventually("samples of the one are gone", lambda: not samples(one), 240)

    def told(when):
        for fold in ("count", "max"):
            answer, infos = rows(fold, one)
            check(are(answer, want(fold, 0)) and any("rows of 60 minutes" in i for i in infos), f"{when}: {fold}: {answer} {infos}")
            both, _ = rows(fold, 'rolled_1{series=~"0|1"}')
            check(len(both) == 2, f"{when}: {both}")
        answer, infos = rows("count", two, max_source_resolution="5m")
        check(len(answer) > 0 and answer == rows("count", two, max_source_resolution="0")[0], f"{when}: {answer}")
        # Its rows of five minutes are gone, and its samples are not: no question is answered by rows that lack it.
        fine = {"query": f"count_over_time({two}[5m])", "step": 300, **at}
        answer, _ = ask(ours.query, "query_range", **fine)
        check(len(answer) > 0 and answer == ask(ours.query, "query_range", max_source_resolution="0", **fine)[0], f"{when}: {answer}")

    told("samples gone")
    # Rows of five minutes of rolled_2 are gone, where those of others are not.
    rolls, _ = rolled(ours.query)
    check({b["resolution"] for b in rolls} == {300_000, 3600_000}, f"{rolls}")
    # Late samples over such a window, live and flushed: the series that has its samples answers by them all, and the
    # other by its rows, which are what its samples were.
    late = old - 3 * 3600_000 + 1234
    check(koa.push(ours.push, [({"__name__": "rolled_1", "job": "j" + s, "series": s}, [(late, 1e9)]) for s in "01"])[0] == 204, "push")
    for when in ("live", "flushed"):
        if when == "flushed":
            ours.flush_all()
        told(f"late, {when}")
        check("1000000000" in json.dumps(rows("max", 'rolled_1{series=~"0|1"}')[0]), f"{when}: the late sample is not there")
    # The catalogue from the store alone.
    check(ours.process.stop() == 0, ours.process.words())
    for folder in ("kv", "log", "snapshots"):
        shutil.rmtree(world.path("data", folder))
    manifests = glob.glob(world.path("data", "**", "catalogue"), recursive=True)
    check(manifests, "no manifests")
    for folder in manifests:
        shutil.rmtree(folder)
    p = subprocess.run([os.path.join(koa.BIN, "koalemos"), "catalog", "rebuild", "--data-dir", world.path("data"), "--partitions", "2"],
                       capture_output=True, text=True, timeout=120)
    check(p.returncode == 0, f"rebuild: {p.returncode} {p.stdout} {p.stderr}")
    ours.process.start()
    ours.ready()
    # What several filesets replaced together is back, too, until rules are obeyed again: samples go before lone rows.
    eventually("samples of the one are gone again", lambda: not samples(one), 120)
    told("rebuilt")
