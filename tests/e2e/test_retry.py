"""Agents that send again: nothing is lost, nothing counts twice, whoever dies in between."""
import random
import threading
import time

import koa
from koa import check, eventually, http, instant

SERIES, SAMPLES = 40, 3


class Agent(threading.Thread):
    """Pushes its series step by step, in order, as agents do: the same bytes again until they are taken, at
    whichever doorman answers. Each step is SAMPLES samples of each of SERIES metrics, over all partitions."""

    def __init__(self, number, bases):
        super().__init__(daemon=True)
        self.number, self.bases, self.stop_it = number, bases, threading.Event()
        self.steps, self.retries, self.error = [], 0, None
        self.random = random.Random(number)

    def body(self, step, now):
        return koa.snappy(b"".join(
            koa.rw1_series({"__name__": f"kept_{i}", "agent": str(self.number)},
                           [(now + k, float(step * SAMPLES + k)) for k in range(SAMPLES)]) for i in range(SERIES)))

    def take(self, body):
        while True:
            base = self.random.choice(self.bases)
            try:
                status, _, words = http(f"{base}/api/v1/write", body, koa.RW1, timeout=20)
            except OSError:                            # killed while it had the request
                status, words = 503, b""
            if status == 204:
                return
            check(status in (503, 429), f"agent {self.number}: {status} {words[:300]}")
            self.retries += 1
            time.sleep(0.05)

    def run(self):
        try:
            now = int(time.time() * 1000)
            while not self.stop_it.is_set():
                now = max(now + SAMPLES, int(time.time() * 1000))
                self.take(self.body(len(self.steps), now))
                self.steps.append(now)
        except Exception as e:                         # told by the test
            self.error = e


def verify(ours, agents, what):
    at = max(a.steps[-1] for a in agents) / 1000 + 1
    seconds = int(at - min(a.steps[0] for a in agents) / 1000) + 3
    for i in range(0, SERIES, 7):
        counts = instant(ours.query, f"count_over_time(kept_{i}[{seconds}s])", at)
        sums = instant(ours.query, f"sum_over_time(kept_{i}[{seconds}s])", at)
        for a in agents:
            n, key = len(a.steps) * SAMPLES, (("agent", str(a.number)),)
            check(counts.get(key) == n, f"{what}: kept_{i} of agent {a.number}: {counts.get(key)} samples "
                                        f"instead of {n}")
            check(sums.get(key) == n * (n - 1) / 2, f"{what}: kept_{i} of agent {a.number}: the values")


def test_two_doormen_one_killed_in_mid_request_lose_and_double_nothing(world):
    ours = koa.Cluster(world)
    second = ours.second_doorman()
    bases = [ours.url("doorman"), ours.url("doorman-1")]
    agents = [Agent(n, bases) for n in range(4)]
    for a in agents:
        a.start()
    for turn in range(6):
        time.sleep(1.0 + 0.37 * turn % 0.8)
        victim, base = (ours.doorman, bases[0]) if turn % 2 else (second, bases[1])
        victim.kill()
        time.sleep(0.5)
        victim.start()
        koa.wait_ready(base, victim)
    time.sleep(1)
    for a in agents:
        a.stop_it.set()
    for a in agents:
        a.join(60)
        check(a.error is None and not a.is_alive(), f"agent {a.number}: {a.error}")
    check(sum(a.retries for a in agents) > 5, "the kills were felt")
    check(min(len(a.steps) for a in agents) > 20, f"steps: {[len(a.steps) for a in agents]}")

    # The querier reads what ingestors have applied: the last records may still be on their way.
    eventually("every sample is there once", lambda: verify(ours, agents, "live") or True, 30, 1)
    ours.flush_all()
    verify(ours, agents, "from filesets")


def test_a_retry_after_an_outage_of_the_log_writes_the_rest(world):
    ours = koa.Cluster(world, "--doorman.append_timeout=1s", "--bus.timeout=1s")
    agents = [Agent(n, [ours.push]) for n in range(2)]
    for a in agents:
        a.start()
    time.sleep(1)
    ours.nats.kill()                                   # every append hangs in the air
    time.sleep(4)
    ours.nats.start()
    time.sleep(6)
    for a in agents:
        a.stop_it.set()
    for a in agents:
        a.join(60)
        check(a.error is None and not a.is_alive(), f"agent {a.number}: {a.error}")
    check(sum(a.retries for a in agents) > 0, "the outage was felt")
    ours.ready()
    eventually("every sample is there once", lambda: verify(ours, agents, "after the outage") or True, 60, 1)
