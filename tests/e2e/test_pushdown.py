"""Aggregates made by ingestors: what a querier that pushes them down answers is what one that does not answers."""
import json
import signal
import time
import urllib.parse

import koa
from koa import api, check, eventually, http
from koa_cell import Cell, metric

QUERIES = ["sum by (group) (rate(grown_total[20s]))", "avg by (group) (grown_total)", "max(grown_total)",
           "count(grown_total)", "sum(increase(grown_total[30s])) / count(grown_total)", "min by (group) (idelta(grown_total[10s]))",
           "sum without (n) (avg_over_time(grown_total[15s]))", "sum(small) + count(grown_total)",
           "max_over_time(sum(rate(grown_total[10s]))[20s:2s])"]
FLAGS = ["--placement.spread_series=1000", "--placement.spread_delay=2s", "--placement.spread_window=4s",
         "--ingestor.census=500ms"]


def answer(base, query, at, window, **more):
    """The whole answer, with statistics, but for what is a matter of time."""
    params = {"query": query, "stats": "all"} | more
    if window:
        what, params = "query_range", params | {"start": at - window, "end": at, "step": 3}
    else:
        what, params = "query", params | {"time": at}
    status, _, body = http(f"{base}/api/v1/{what}?" + urllib.parse.urlencode(params))
    check(status == 200, f"{query}: {status} {body[:300]!r}")
    got = json.loads(body)
    got["data"]["stats"].pop("timings", None)
    return json.dumps(got)


def test_each_second_across_a_spread_it_makes_no_difference_to_push_down(world):
    cell = Cell(world, *FLAGS)
    process = cell.service("querier", "fetches", "--store.dir", world.path("store"), "--features.pushdown=0")
    fetches = cell.url("fetches")
    koa.wait_ready(fetches, process, 60)
    cell.settled(["ingestor-0", "ingestor-1"])
    series, spread_at, compared, k, again = 900, None, 0, 0, 0
    begin = time.monotonic()
    while time.monotonic() - begin < 90 and (spread_at is None or time.monotonic() - spread_at < 15):
        now = int(time.time() * 1000)
        for part in range(0, series, 1000):
            status, words = koa.push(cell.push, [
                ({"__name__": "grown_total", "n": str(i), "group": str(i % 7)}, [(now, k * 1.1 + i / 7)])
                for i in range(part, min(part + 1000, series))] + [({"__name__": "small"}, [(now, float(k))])])
            check(status == 204, f"push: {status} {words}")
        k += 1
        if k == 5:
            series = 3000
        for i, query in enumerate(QUERIES):
            at, window = now / 1000 - i % 2, [0, 20][(i + k) % 2]
            # Sums fold partition by partition, so their last digits are those of a layout; the two hear of a new one
            # some milliseconds apart. Then they are asked again.
            for _ in range(3):
                with_, without = answer(cell.query, query, at, window), answer(fetches, query, at, window)
                if with_ == without:
                    break
                again += 1
                time.sleep(0.2)
            apart = next((c for c, (a, b) in enumerate(zip(with_, without)) if a != b), 0)
            check(with_ == without, f"{query} at {at}: from {apart} on, pushed down {with_[max(0, apart - 300):apart + 300]}\n"
                  f"fetched {without[max(0, apart - 300):apart + 300]}")
            compared += 1
        if spread_at is None and len(api(fetches, "query_explain", query="grown_total")["selectors"][0]["partitions"]) == 4:
            spread_at = time.monotonic()
        time.sleep(max(0, now / 1000 + 1 - time.time()))
    check(spread_at is not None, "3000 series against 1000 a partition are spread over four")
    pushed, refused = (metric(cell.query, f"koalemos_querier_pushdowns{x}_total") for x in ("", "_refused"))
    check(pushed > 50 and refused < pushed, f"{pushed} pushed down, {refused} of them in vain")
    check(again <= 6, f"asked again {again} times: more than one change of the layout explains")
    check(metric(fetches, "koalemos_querier_pushdowns_total") == 0, "one of them never does")
    print(f"{compared} answers equal, {pushed:.0f} selectors pushed down, {refused:.0f} of them refused")

    query = "sum by (group) (rate(grown_total[5s]))"

    def pushed_again():                                # what was placed otherwise is out of the range
        at = time.time()
        koa.push(cell.push, [({"__name__": "grown_total", "n": str(i), "group": str(i % 7)}, [(int(at * 1000), 1e9 + i)])
                             for i in range(3000)])
        told = api(cell.query, "query_explain", query=query, time=at)["selectors"][0]
        return told["pushed"] and told["pushed"]["groups"] == 7 and told["pushed"]["series"] == 3000 and \
            len(told["partitions"]) == 4
    eventually("after the spread it is pushed down to four partitions", pushed_again, 30, 1)
    cell.flush_all()
    at = time.time()
    told = api(cell.query, "query_explain", query=query.replace("5s", "1m"), time=at)["selectors"][0]
    check(told["pushed"] is None and "filesets" in told["notPushed"], f"what is stored is not pushed down: {told}")
    check(answer(cell.query, query, at, 40) == answer(fetches, query, at, 40), "half of it in filesets")


def test_while_an_owner_sleeps_its_standby_makes_the_aggregate(world):
    cell = Cell(world)
    both = ["ingestor-0", "ingestor-1"]
    cell.settled(both)
    now = int(time.time() * 1000)
    for k in range(20):
        status, words = koa.push(cell.push, [({"__name__": "slept_total", "n": str(i), "group": str(i % 7)},
                                              [(now - (20 - k) * 1000, k * 1.1 + i / 7)]) for i in range(200)])
        check(status == 204, f"push: {status} {words}")
    (p,) = cell.ask("leader?metric=slept_total")["partitions"]
    asleep = both.index(p["members"][0]["node"])
    sleeper = cell.ingestors[asleep]
    queries = ["sum by (group) (rate(slept_total[20s]))", "avg(slept_total)", "topk(3, slept_total)", "max by (group) (slept_total)"]
    before = [answer(cell.query, q, now / 1000, 15) for q in queries]
    refused, won = (metric(cell.query, f"koalemos_querier_{x}_total") for x in ("pushdowns_refused", "hedges_won"))
    took = []
    sleeper.child.send_signal(signal.SIGSTOP)
    try:
        for more in ({}, {}, {"consistency": "strong"}):
            for query, awake in zip(queries, before):
                begin = time.monotonic()
                got = answer(cell.query, query, now / 1000, 15, **more)
                took.append(f"{time.monotonic() - begin:.2f}{'!' if more else ''}")
                check(got == awake, f"{query} {more}: asleep {got[:600]}\nawake {awake[:600]}")
    finally:
        sleeper.child.send_signal(signal.SIGCONT)
    print(f"while it slept, in turn (!: strong): {' '.join(took)} s")
    check(metric(cell.query, "koalemos_querier_hedges_won_total") > won, "no standby answered in place of the owner")
    check(metric(cell.query, "koalemos_querier_pushdowns_refused_total") == refused, "what a standby could make was asked for as series")
    check(metric(cell.query, "koalemos_querier_pushdowns_stopped_total") > 0, "the owner was not told that it is too late")
    cell.settled(both)
    for query, awake in zip(queries, before):
        check(answer(cell.query, query, now / 1000, 15) == awake, f"{query}: after the owner woke")
    base = cell.url(f"ingestor-{asleep}")
    made, stopped = (metric(base, f"koalemos_ingestor_aggregates{x}_total") for x in ("", "_stopped"))
    print(f"of what it was asked while it slept it stopped {stopped:.0f}; made in all: {made:.0f}")


def test_whose_client_goes_away_is_not_made_to_the_end(world):
    cell = Cell(world, ingestors=1, replicas=1)
    cell.settled(["ingestor-0"])
    now = int(time.time() * 1000)
    for k in range(0, 1200, 100):                      # a sample a second, for 20 minutes
        status, words = koa.push(cell.push, [({"__name__": "long", "n": str(i), "group": str(i % 7)},
                                              [(now - (1200 - s) * 1000, s * 1.1 + i / 7) for s in range(k, k + 100)])
                                             for i in range(200)])
        check(status == 204, f"push: {status} {words}")

    def counted(name):
        return metric(cell.url("ingestor-0"), f"koalemos_ingestor_{name}_total")

    params = {"query": "sum by (group) (stddev_over_time(long[20m]))", "start": now / 1000 - 1000, "end": now / 1000, "step": 0.3}
    url = f"{cell.query}/api/v1/query_range?" + urllib.parse.urlencode(params)
    begin = time.monotonic()
    status, _, body = http(url)
    whole = time.monotonic() - begin
    check(status == 200, f"{status} {body[:300]!r}")
    check(counted("aggregates") == 1, f"{counted('aggregates')} made, {counted('aggregates_refused')} refused, in {whole:.2f} s")
    try:
        http(url, timeout=0.3)
        check(False, f"answered in 0.3 s, where it took {whole:.2f} s")
    except OSError:                                    # it did not wait
        pass
    begin = time.monotonic()
    eventually("the ingestor stops", lambda: counted("aggregates_stopped") == 1, 20, 0.05)
    print(f"it takes {whole:.2f} s; stopped {0.3 + time.monotonic() - begin:.2f} s after it was asked for")
    check(counted("aggregates") == 1, "it was made to the end")
    check(metric(cell.query, "koalemos_querier_pushdowns_stopped_total") == 1, "who was told")
