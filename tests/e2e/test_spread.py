"""A metric that outgrows a partition is spread over more, while it is pushed and asked for."""
import time

import koa
from koa import api, check, eventually, http, instant, one

FLAGS = ["--placement.spread_series=1000", "--placement.spread_delay=2s", "--placement.spread_window=4s",
         "--ingestor.census=500ms"]
SERIES = 3000


def partitions_asked(ours, query, of=16):
    selectors = api(ours.query, "query_explain", query=query)["selectors"]
    check(all(s["partitionsOf"] == of for s in selectors), f"of {of} partitions: {selectors}")
    return {p for s in selectors for p in s["partitions"]}


class Pusher:
    """Pushes every series once a step, and knows what must be there."""

    def __init__(self, ours):
        self.ours, self.steps = ours, []
        self.series = 900                              # below the bound
        self.grown_at = 0

    def labels(self, i, metric="grown_total"):
        return {"__name__": metric, "n": str(i), "group": str(i % 7)}

    def step(self):
        now = int(time.time() * 1000)
        if self.steps and now <= self.steps[-1]:
            now = self.steps[-1] + 1
        k = len(self.steps)
        for part in range(0, self.series, 500):        # several pushes
            series = [(self.labels(i), [(now, float(k * 100_000 + i))])
                      for i in range(part, min(part + 500, self.series))]
            status, words = koa.push(self.ours.push, series)
            check(status == 204, f"push: {status} {words}")
        status, words = koa.push(self.ours.push, [(self.labels(1, "small"), [(now, float(k))])])
        check(status == 204, f"push: {status} {words}")
        self.steps.append(now)

    def grow(self):
        self.series, self.grown_at = SERIES, len(self.steps)

    def verify(self, what):
        """Every sample of every series, label queries, aggregates."""
        at, steps = self.steps[-1] / 1000, len(self.steps)
        seconds = int(at - self.steps[0] / 1000) + 2
        first = lambda i: 0 if i < 900 else self.grown_at
        number = lambda labels: int(dict(labels)["n"])
        counts = instant(self.ours.query, f"count_over_time(grown_total[{seconds}s])", at)
        check(len(counts) == self.series, f"{what}: {len(counts)} series instead of {self.series}")
        wrong = [(l, v) for l, v in counts.items() if v != steps - first(number(l))]
        check(not wrong, f"{what}: samples lost or doubled: {wrong[:3]} of {steps}")
        sums = instant(self.ours.query, f"sum_over_time(grown_total[{seconds}s])", at)
        for labels, v in sums.items():
            i = number(labels)
            check(v == sum(k * 100_000 + i for k in range(first(i), steps)), f"{what}: the samples of n={i}")
        k = steps - 1
        by_group = instant(self.ours.query, "sum by (group) (grown_total)", at)
        check(by_group == {(("group", str(g)),): float(sum(k * 100_000 + i for i in range(g, self.series, 7)))
                           for g in range(7)}, f"{what}: sum by group")
        check(one(self.ours.query, "count(grown_total)", at) == self.series, f"{what}: count")
        check(len(api(self.ours.query, "series", match="grown_total")) == self.series, f"{what}: series")
        values = api(self.ours.query, "label/n/values", match="grown_total")
        check(len(values) == self.series, f"{what}: {len(values)} label values")
        names = api(self.ours.query, "labels", match="grown_total")
        check(names == ["__name__", "group", "n"], f"{what}: label names {names}")
        metrics = api(self.ours.query, "label/__name__/values")
        check("grown_total" in metrics and "small" in metrics, f"{what}: {metrics}")


def grows(world, ours, metrics_url):
    pusher = Pusher(ours)
    pusher.step()
    pusher.verify("before")
    check(len(partitions_asked(ours, "grown_total")) == 1, "before, one partition has it")
    pusher.grow()

    def spread():
        pusher.step()
        return len(partitions_asked(ours, "grown_total")) == 4
    eventually("3000 series against 1000 a partition are spread over four", spread, 60, 0.5)
    pusher.verify("the spread is recorded")
    end = time.monotonic() + 8                         # it begins, and a while after
    while time.monotonic() < end:
        pusher.step()
        time.sleep(0.3)
    pusher.verify("the spread has begun")
    ours.flush_all()
    pusher.verify("half of it in filesets")
    for _ in range(3):
        pusher.step()
    pusher.verify("live and stored, both layouts")
    check(len(partitions_asked(ours, "grown_total")) <= 4, "a query asks at most 2^spread partitions")
    check(len(partitions_asked(ours, "small")) == 1, "a small metric is asked in one")
    metrics = http(f"{metrics_url}/metrics")[2].decode()
    recorded = [l for l in metrics.splitlines() if l.startswith("koalemos_doorman_spreads_total")]
    check(recorded and float(recorded[0].split()[-1]) in (1, 2), f"one or two steps: {recorded}")
    for p in [p for p in ours.processes if p.name != "nats"]:
        p.kill()
        p.start()
    ours.ready()
    pusher.verify("after kill -9 of every process")


def test_serve_spreads_a_metric_that_outgrows_a_partition(world):
    ours = koa.Serve(world, *FLAGS)
    grows(world, ours, ours.push)


def test_cluster_spreads_a_metric_that_outgrows_a_partition(world):
    ours = koa.Cluster(world, *FLAGS)
    grows(world, ours, ours.push)
