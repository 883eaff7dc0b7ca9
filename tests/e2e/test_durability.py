"""A client that knows what was acknowledged. Values check themselves: value = f(series, index)."""
import random
import threading
import time

import koa
from koa import api, check, http


STEP_MS = 10


def value(series, index):
    return float((series * 1_000_003 + index * 7919) % 1_000_000_007)


class Writer(threading.Thread):
    """Pushes batch after batch, repeating one until it is acknowledged; remembers what was."""

    def __init__(self, base, writer, begin_ms, series=20, pause_s=0):
        super().__init__(daemon=True)
        self.base, self.writer, self.begin_ms, self.series, self.pause_s = base, writer, begin_ms, series, pause_s
        self.acked = 0                                 # indexes below this were acknowledged
        self.refused = 0
        self.longest_s = self.worst_s = 0.0            # without an ack: since `anew`, and ever
        self.since_s = None                            # of the ack that `anew` waits for
        self.stopping = False

    def anew(self):
        """Measures from now on; `since_s` is None once something that was begun later was acked."""
        self.longest_s, self.since_s = 0.0, time.monotonic()

    def run(self):
        last = begun = time.monotonic()
        while not self.stopping:
            batch = [({"__name__": f"checked_{self.writer}", "series": str(s)},     # a partition a writer
                      [(self.begin_ms + i * STEP_MS, value(self.writer * 1000 + s, i))
                       for i in range(self.acked, self.acked + 5)]) for s in range(self.series)]
            try:
                status, words = koa.push(self.base, batch, timeout=15)
            except OSError:
                status, words = 0, ""
            if status == 204:
                self.acked += 5
                now = time.monotonic()
                if self.since_s is not None and begun >= self.since_s:
                    self.since_s = None
                self.longest_s, self.worst_s = max(self.longest_s, now - last), max(self.worst_s, now - last)
                time.sleep(self.pause_s)
                last = begun = time.monotonic()
            else:
                self.refused += 1
                check(status in (0, 503), f"a good push was answered {status} {words}")
                time.sleep(0.05)


def verify(base, writers):
    """Every acked sample once with its value; nothing that was never sent."""
    total = 0
    for w in writers:
        end = (w.begin_ms + (w.acked + 10) * STEP_MS) / 1000
        data = api(base, "query", query=f"checked_{w.writer}[{w.acked * STEP_MS // 1000 + 60}s]", time=f"{end:.3f}",
                   consistency="strong")               # acked a moment ago
        got = {int(s["metric"]["series"]): s["values"] for s in data["result"]}
        check(len(got) == w.series, f"writer {w.writer}: {len(got)} series")
        for s, values in got.items():
            index = [round((t * 1000 - w.begin_ms) / STEP_MS) for t, _ in values]
            lost = sorted(set(range(w.acked)) - set(index))
            check(index[:w.acked] == list(range(w.acked)),
                  f"writer {w.writer} series {s}: acked {w.acked}, lost {len(lost)}: {lost[:5]} to {lost[-1:]}")
            check(len(index) <= w.acked + 5, f"writer {w.writer} series {s}: more than was sent")
            for i, (_, v) in zip(index, values):
                check(float(v) == value(w.writer * 1000 + s, i), f"writer {w.writer} series {s} index {i}: {v}")
            total += len(index)
    return total


def kills(world, ours, rounds, flush_every=0):
    begin_ms = int(time.time() * 1000) - 3 * 3600_000
    writers = [Writer(ours.push, n, begin_ms) for n in range(3)]
    draw = random.Random(7)
    for w in writers:
        w.start()
    for n in range(rounds):
        time.sleep(draw.uniform(0.2, 1.2))
        if flush_every and n % flush_every == 0:
            flush = threading.Thread(target=lambda: quiet_flush(ours), daemon=True)
            flush.start()
            time.sleep(draw.uniform(0, 0.05))          # the kill lands inside the flush
        p = draw.choice(ours.processes)
        p.kill()
        p.start()
        ours.ready()
    before = [w.acked for w in writers]
    koa.eventually("writes are taken again", lambda: all(w.acked > b for w, b in zip(writers, before)), 30)
    for w in writers:
        w.stopping = True
    for w in writers:
        w.join(30)
    total = verify(ours.query, writers)
    check(total > 1000, f"only {total} samples were written: the test tests nothing")
    ours.flush_all()
    check(verify(ours.query, writers) == total, "the flush changed the number of samples")
    print(f"       {total} samples, {sum(w.refused for w in writers)} refused pushes, {rounds} kills", flush=True)


def quiet_flush(ours):
    try:
        ours.flush_all()
    except (OSError, koa.Failed):
        pass                                           # killed in its midst: that is the point


def test_serve_loses_no_acked_sample_to_kill_9_at_any_instant(world):
    kills(world, koa.Serve(world), rounds=12, flush_every=3)


def test_cluster_loses_no_acked_sample_to_kill_9_of_any_process(world):
    kills(world, koa.Cluster(world), rounds=10, flush_every=3)


def test_serve_says_what_is_wrong_when_it_cannot_start(world):
    import os
    ours = koa.Serve(world)

    def failing(name, *flags):
        p = world.run(name, os.path.join(koa.BIN, "koalemos"), "serve", *flags)
        status = p.ended()
        check(status in (1, 2), f"{name}: exit status {status}")
        return p.words()
    words = failing("port", "--data-dir", world.path("other"), "--listen", f"127.0.0.1:{ours.port}")
    check(str(ours.port) in words and "in use" in words, f"a taken port: {words}")
    words = failing("lock", "--data-dir", world.path("data"), "--listen", f"127.0.0.1:{koa.free_port()}")
    check(world.path("data") in words, f"a folder in use: {words}")
    with open(world.path("file"), "w") as f:
        f.write("not a folder")
    words = failing("file", "--data-dir", world.path("file"), "--listen", f"127.0.0.1:{koa.free_port()}")
    check(world.path("file") in words, f"a file as data-dir: {words}")
    words = failing("nothing")
    check("--data-dir" in words, f"no data-dir: {words}")
    with open(world.path("bad.yaml"), "w") as f:
        f.write("partitions: 16\nparttions: 16\n")
    words = failing("yaml", "--config", world.path("bad.yaml"), "--data-dir", world.path("d2"))
    check("parttions" in words and "2" in words, f"an unknown key: {words}")


def test_cluster_answers_503_while_nats_is_gone_and_recovers_by_itself(world):
    ours = koa.Cluster(world)
    now = int(time.time() * 1000)
    check(koa.push(ours.push, [({"__name__": "before"}, [(now, 1.0)])])[0] == 204, "push before")
    ours.nats.kill()
    status, words = koa.push(ours.push, [({"__name__": "during"}, [(now, 1.0)])])
    check(status == 503 and words.strip(), f"push without NATS: {status} {words!r}")
    koa.eventually("the doorman says that it is not ready", lambda: http(f"{ours.push}/-/ready")[0] == 503, 20)
    check(all(p.alive() for p in ours.processes[1:]), "a service died with NATS")
    ours.nats.start()
    ours.ready()
    koa.eventually("pushes are taken again",
                   lambda: koa.push(ours.push, [({"__name__": "after"}, [(now, 2.0)])])[0] == 204, 30)
    koa.eventually("both are there", lambda: koa.instant(ours.query, 'count({__name__=~"before|after"})') and
                   koa.one(ours.query, 'count({__name__=~"before|after"})') == 2, 20)
