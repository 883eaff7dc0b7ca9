"""What a dashboard over stored data fetches: what it needs, little more, and once."""
import time

import koa
from koa import api, check, http, stored
from koa_s3 import S3

STEP, DAY = 60_000, 86_400_000
PANELS = ["sum(rate(warm_0_total[5m]))", "max by (host) (warm_1)", "avg(warm_2)", "topk(3, warm_3)",
          "quantile(0.9, warm_4)", "count(warm_5)", "min(warm_6)", "avg_over_time(warm_7{host='h1'}[1h])",
          "warm_8{host='h2'}", "rate(warm_9_total[10m])", "sum(warm_10)", "warm_11"]


def load(base, begin, end, series=10):
    names = [f"warm_{m}_total" if m in (0, 9) else f"warm_{m}" for m in range(24)]
    for at in range(begin, end, 21_600_000):
        times = range(at, min(at + 21_600_000, end), STEP)
        for n, name in enumerate(names):
            status, words = koa.push(base, [({"__name__": name, "host": f"h{s}"},
                                             [(t, (t // STEP * 7919 + n * 31 + s) * 2654435761 % 2**32 // 65536) for t in times]) for s in range(series)])
            check(status == 204, f"push: {status} {words}")


def dashboard(base, end):
    """What one pass over the panels took, and its answers."""
    before = stored(base)
    got = [api(base, "query_range", query=p, start=end / 1000 - 86400, end=end / 1000, step=300) for p in PANELS]
    check(all(g["result"] for g in got), "a panel is empty")
    after = stored(base)
    return {k: after[k] - before[k] for k in after}, got


def test_a_dashboard_fetches_what_it_needs_and_once(world):
    s3 = S3(world)
    ours = koa.Serve(world, *s3.flags(), "--ingestor.window", "24h", "--limits.past", "0", "--compaction.bytes_max", "0",
                     "--querier.results_cache_max", "0")
    end = int(time.time()) // 86400 * DAY - DAY
    load(ours.push, end - 2 * DAY, end)
    ours.flush_all()
    ours.process.stop()
    ours.process.start()
    ours.ready()
    for to in (end, end - DAY // 2):
        cold, before = dashboard(ours.query, to)
        missing = cold["data", "wanted"] - cold["data", "memory"] - cold["data", "disk"]
        check(cold["data", "store"] <= 1.5 * missing, f"fetched {cold}")
        warm, again = dashboard(ours.query, to)
        check(again == before, "warm answers are others")
        check(warm["data", "wanted"] >= cold["data", "wanted"] > 0, f"nothing was needed: {cold} {warm}")
        check(warm["data", "store"] + warm["index", "store"] <= 0.015 * warm["data", "wanted"], f"fetched again: {warm}")
    plan = api(ours.query, "query_explain", query=PANELS[0], start=end / 1000 - 86400, end=end / 1000, step=300)
    files = plan["selectors"][0]["filesets"]
    check(files["data"]["neededBytes"] > 0 and files["data"]["storeBytes"] == 0, f"explained: {files}")
    check(files["data"]["memoryBytes"] + files["data"]["diskBytes"] >= files["data"]["neededBytes"], f"tiers: {files}")


def test_a_range_asked_again_is_answered_from_what_was_evaluated(world):
    ours = koa.Serve(world, "--limits.past", "0", "--querier.results_cache_least", "1000", "--ingestor.cut_delay", "24h")
    now = int(time.time() * 1000)
    end = now // 300_000 * 300_000
    load(ours.push, end - DAY // 2, end, series=3)
    queries = ["sum by (host) (rate(warm_0_total[10m]))", "warm_3", "max_over_time(warm_5[1h])"]
    span = {"start": (end - DAY // 2) / 1000, "end": end / 1000, "step": 300}

    def cached(q, **when):
        return api(ours.query, "query_explain", query=q, **(when or span))["resultsCache"]
    first = [api(ours.query, "query_range", query=q, **span) for q in queries]
    for q, before in zip(queries, first):
        found = cached(q)
        check(found["cachedSteps"] >= 100 and found["steps"] == 145, f"{q}: {found}")
        check(api(ours.query, "query_range", query=q, **span) == before, f"{q} is answered another way")
    # One series of few samples is evaluated as quickly, and nobody is asked how it stands.
    hour = {"start": end / 1000 - 7200, "end": end / 1000 - 3600, "step": 300}
    for _ in range(2):
        found = cached("warm_20{host='h1'}", **hour)
        check(found["cachedSteps"] == 0 and "as quickly" in found["passedBy"], f"a small one: {found}")
    ours.flush_all()
    check([api(ours.query, "query_range", query=q, **span) for q in queries] == first, "after a flush")
    check(cached("warm_3 @ end()")["cachedSteps"] == 0 and cached("warm_3 @ end()")["passedBy"], "@ end() was kept")
    # Late data is seen at once.
    at = end - DAY // 4
    status, words = koa.push(ours.push, [({"__name__": "warm_3", "host": "late"}, [(at, 77)])])
    check(status == 204, f"late: {status} {words}")
    got = api(ours.query, "query_range", query="warm_3", **span)
    check(any(s["metric"]["host"] == "late" for s in got["result"]), "a late sample is not there")
    check(0 < cached("warm_3")["cachedSteps"], "all was forgotten")
    status, _, body = http(f"{ours.query}/api/v1/query_range?query=warm_3&step=300&start={span['start']}&end={span['end']}",
                           headers={"X-Scope-OrgID": "another"})
    check(status == 200 and b'"result":[]' in body, f"another tenant: {body[:200]}")
    off = koa.Serve(world, "--querier.results_cache_max", "0", name="off", data=world.path("off"))
    check("off" in api(off.query, "query_explain", query="up", **span)["resultsCache"]["passedBy"], "it is not off")


def test_what_a_dashboard_that_repeats_will_want_is_read_ahead(world):
    ours = koa.Serve(world, "--limits.past", "0", "--ingestor.cut_delay", "24h", "--ingestor.window", "24h")
    end = int(time.time()) // 86400 * DAY - DAY // 2
    load(ours.push, end - DAY // 2, end - DAY // 4, series=3)
    ours.flush_all()

    def refresh(step):
        to = (end - DAY // 8 + step * STEP) / 1000
        return api(ours.query, "query_explain", query="sum by (host) (warm_3)", start=to - 36_000, end=to, step=60)["prefetch"]

    def ahead(what):
        _, _, body = http(f"{ours.query}/metrics")
        return sum(float(line.split()[1]) for line in body.decode().splitlines()
                   if line.startswith(f"koalemos_querier_prefetch_{what}_total "))
    # One after another may go to each of several loops, which know nothing of one another.
    for step in range(16):
        seen = refresh(step)
    check(seen["repeats"] > 0 and seen["usedBytes"] == 0 and ahead("bytes") == 0, f"before anything changed: {seen}")
    load(ours.push, end - DAY // 4, end, series=3)
    ours.flush_all()
    koa.eventually("something is read ahead", lambda: ahead("bytes") > 0, 30)
    used = sum(refresh(16 + i)["usedBytes"] for i in range(16))
    check(used == ahead("used_bytes") > 0 and ahead("wasted_bytes") == 0, f"used {used} of {ahead('bytes')}")
