"""A server that is told to stop does so soon and well, whatever it is doing and whatever is missing.

That each exits with 0 and has no sanitizer's report in its output is checked at the end of every
test (koa.World); here the moment is chosen badly."""
import http.client
import os
import random
import signal
import threading
import time

import koa
from koa import check, eventually
from test_durability import Writer, verify

STOP_S = 8          # below http.drain: no answer may be waited for in vain; sanitizers make it slow


class Asker(threading.Thread):
    """Asks one thing after another, of every kind; a stopping server may refuse, never answer wrongly."""

    PATHS = ("query?query=sum({__name__=~\"checked_.*\"}[1h])",                     # an error: a range
             "query?query=checked_0[1h]",
             "query?query=sum(count_over_time({__name__=~\"checked_.*\"}[6h]))",
             "query_range?query=avg by (series) (rate({__name__=~\"checked_.*\"}[1m]))&start=%d&end=%d&step=15",
             "query_range?query=topk(3, max_over_time(checked_1[5m:10s]))&start=%d&end=%d&step=60",
             "series?match[]={__name__=~\"checked_.*\"}",
             "label/__name__/values", "labels", "status/tsdb", "export?match[]={series=\"1\"}")

    def __init__(self, ours, seed):
        super().__init__(daemon=True)
        self.ours, self.draw = ours, random.Random(seed)
        self.answered, self.unfit, self.stopping = 0, [], False

    def run(self):
        while not self.stopping:
            path = self.draw.choice(self.PATHS)
            if "%d" in path:
                now = int(time.time())
                path %= (now - 4 * 3600, now)
            path = path.replace(" ", "%20").replace("{", "%7B").replace("}", "%7D").replace('"', "%22")
            try:
                # Some clients do not wait for their answer.
                timeout = self.draw.choice((0.02, 30))
                status, _, words = koa.http(f"{self.ours.query}/api/v1/{path}", timeout=timeout)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            self.answered += status == 200
            if status not in (200, 400, 422, 503):
                self.unfit.append(f"{path}: {status} {words[:200]!r}")


def ends_well(p, what):
    """How long it took."""
    begin = time.monotonic()
    status = p.stop(STOP_S)
    check(status == 0, f"{p.name}, {what}: exit status {status}: {p.words()[-400:]}")
    return time.monotonic() - begin


def stops_under_load(ours, victims, rounds):
    begin_ms = int(time.time() * 1000) - 3 * 3600_000
    writers = [Writer(ours.push, n, begin_ms) for n in range(3)]
    askers = [Asker(ours, n) for n in range(4)]
    draw = random.Random(11)
    longest = 0
    for t in writers + askers:
        t.start()
    for n in range(rounds):
        time.sleep(draw.uniform(0.3, 1.2))
        p = victims[n % len(victims)]
        longest = max(longest, ends_well(p, "under load"))
        p.start()
        ours.ready()
    before = [w.acked for w in writers]
    eventually("writes are taken again", lambda: all(w.acked > b for w, b in zip(writers, before)), 30)
    for t in writers + askers:
        t.stopping = True
    for t in writers + askers:
        t.join(60)
    check(verify(ours.query, writers) > 500, "too little was written: the test tests nothing")
    for a in askers:
        check(not a.unfit, f"an answer: {a.unfit[:2]}")
    check(sum(a.answered for a in askers) > 10, "too little was answered: the test tests nothing")
    print(f"       {sum(w.acked for w in writers)} batches' rows acked, {sum(a.answered for a in askers)} "
          f"answers, stopped within {longest:.2f} s", flush=True)


def test_serve_stops_under_load_within_seconds_and_keeps_what_was_acked(world):
    ours = koa.Serve(world)
    stops_under_load(ours, ours.processes, 8)


def test_each_service_stops_under_load_within_seconds_and_keeps_what_was_acked(world):
    ours = koa.Cluster(world)
    stops_under_load(ours, ours.processes[1:], 8)


def soon(world, processes, delays):
    """Each is told to stop so soon after its start that it may not have got far."""
    for delay in delays:
        for p in processes:
            if not p.alive():
                p.start()
        time.sleep(delay)
        for p in processes:
            status = p.stop(STOP_S)
            # Before it has looked at its flags, a signal ends it as it ends any program.
            check(status == 0 or (status == -signal.SIGTERM and delay < 0.5),
                  f"{p.name}, {delay} s after its start: exit status {status}: {p.words()[-400:]}")


DELAYS = (0.5, 0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.7)


def test_serve_stops_right_after_its_start(world):
    ours = koa.Serve(world, ready=False)
    soon(world, ours.processes, DELAYS)
    ours.process.start()
    ours.ready()


def test_each_service_stops_right_after_its_start(world):
    ours = koa.Cluster(world, ready=False)
    soon(world, ours.processes[1:], DELAYS)
    for p in ours.processes[1:]:
        p.start()
    ours.ready()


def test_each_service_waits_for_nats_and_stops_without_it(world):
    ours = koa.Cluster(world, ready=False)
    ours.nats.kill()
    soon(world, ours.processes[1:], DELAYS + (3,))
    for p in ours.processes[1:]:
        p.start()
    time.sleep(1)
    check(all(p.alive() for p in ours.processes[1:]), "a service did not wait for NATS")
    ours.nats.start()
    ours.ready()


def loses_nats(world, lose):
    """NATS goes away in the midst of pushes and questions; then every service is told to stop."""
    ours = koa.Cluster(world, "--http.drain", "2s")
    writers = [Writer(ours.push, n, int(time.time() * 1000) - 3 * 3600_000) for n in range(3)]
    askers = [Asker(ours, n) for n in range(2)]
    for t in writers + askers:
        t.start()
    eventually("pushes arrive", lambda: all(w.acked > 50 for w in writers))
    lose(ours.nats)
    time.sleep(0.3)
    for p in reversed(ours.processes[1:]):
        ends_well(p, "without NATS")
    for t in writers + askers:
        t.stopping = True
    for t in writers + askers:
        t.join(60)
    return ours, writers


def test_each_service_stops_under_load_when_nats_has_died(world):
    ours, writers = loses_nats(world, lambda nats: nats.kill())
    for p in ours.processes:
        p.start()
    ours.ready()
    check(verify(ours.query, writers) > 500, "too little was written: the test tests nothing")


def test_each_service_stops_under_load_when_nats_hangs(world):
    ours, writers = loses_nats(world, lambda nats: os.kill(nats.child.pid, signal.SIGSTOP))
    os.kill(ours.nats.child.pid, signal.SIGCONT)
    for p in ours.processes[1:]:
        p.start()
    ours.ready()
    check(verify(ours.query, writers) > 500, "too little was written: the test tests nothing")
