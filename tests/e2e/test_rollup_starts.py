"""Start times in rollups: what a counter lost where it began anew, though it rose, is in rows as it is in samples."""
import json
import time

import koa
from koa import check, eventually, http
from test_rollup import FLAGS, ask, rolled

STEP = 15_000


def series(begin, end, n):
    """A counter that begins anew now and then, mostly at more than it had been."""
    times, values, starts = [], [], []
    start, value = begin - 20_000 if n != 2 else 0, 100.0
    for i, t in enumerate(range(begin, end, STEP)):
        value += (i * 7 + n) % 11
        if i % (53 + 60 * n) == 17:
            start, value = (t - STEP if i % 2 else t - 7_001), float(i * 1000 % 70_001 + i * 100)
        times.append(t)
        values.append(value)
        starts.append(start)
    return json.dumps({"metric": {"__name__": "begun_total", "n": str(n)}, "values": values, "timestamps": times, "starts": starts})


def test_rates_of_rows_go_by_start_times_as_those_of_samples_do(world):
    ours = koa.Serve(world, *FLAGS)
    end = int(time.time()) // 7200 * 7200_000
    begin = end - 6 * 3600_000
    status, _, body = http(f"{ours.push}/api/v1/import", "\n".join(series(begin, end, n) for n in range(3)).encode(), method="POST")
    check(status == 204, f"{status} {body!r}")
    ours.flush_all()
    eventually("rollups of all windows", lambda: (lambda r: len(r[1]) >= 3 and len(r[0]) == 2 * len(r[1]))(rolled(ours.query)), 240)
    at = {"start": (begin + 3600_000) // 1000, "end": end // 1000 - 3600}
    differs = 0
    for query, step, most in (("increase(begun_total[10m])", 600, "5m"), ("rate(begun_total[1h])", 3600, "5m"),
                              ("rate(begun_total[2h])", 3600, "1h"), ("sum(increase(begun_total[15m] offset 30m))", 300, "5m")):
        rows, infos = ask(ours.query, "query_range", query=query, step=step, max_source_resolution=most, **at)
        raw, _ = ask(ours.query, "query_range", query=query, step=step, **at)
        check(any("rate or increase read rows of" in i and "exact but for the last digits" in i for i in infos), f"{query}: {infos}")
        check(len(rows) == len(raw) > 0, f"{query}: {len(rows)} {len(raw)}")
        for a, b in zip(rows, raw, strict=True):
            check(a["metric"] == b["metric"] and [t for t, _ in a["values"]] == [t for t, _ in b["values"]], f"{query}: other series or times")
            check(all(koa.close_to(float(x), float(y), 1e-12) for (_, x), (_, y) in zip(a["values"], b["values"], strict=True)),
                  f"{query}: {a} is not {b}")
        # Were start times not told of, it would be less: the counter seldom falls.
        plain, _ = ask(ours.query, "query_range", query=query.replace("begun_total", "(begun_total * 1)").replace("1h]", "1h:15s]").replace(
            "2h]", "2h:15s]").replace("0m]", "0m:15s]").replace("5m]", "5m:15s]"), step=step, **at)
        differs += any(float(y) > float(x) * 1.5 for a, b in zip(plain, raw, strict=True)
                       for (_, x), (_, y) in zip(a["values"], b["values"], strict=True))
    check(differs > 0, "start times made no difference: the test says nothing")
