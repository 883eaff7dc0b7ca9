"""A real agent pushes what a real exporter exposes; a Debian Prometheus that gets the same pushes is
the judge of our answers: live, from filesets, and after every process has been killed."""
import os
import time

import koa
from koa import api, check, eventually, http, instant, one, same_vectors

OWN = {"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling",
       "scrape_series_added"}


class Peers:
    """node_exporter, the agent, and the reference Prometheus."""

    def __init__(self, world, push):
        self.node, agent, self.reference_port = koa.free_port(), koa.free_port(), koa.free_port()
        self.reference = f"http://127.0.0.1:{self.reference_port}"
        with open(world.path("reference.yml"), "w") as f:
            f.write("global: {}\n")
        with open(world.path("agent.yml"), "w") as f:
            f.write(f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{self.node}"]}}]
remote_write:
  - {{name: ours, url: "{push}/api/v1/write", queue_config: {{batch_send_deadline: 500ms, max_backoff: 1s}}}}
  - {{name: reference, url: "{self.reference}/api/v1/write", queue_config: {{batch_send_deadline: 500ms, max_backoff: 1s}}}}
""")
        program = lambda name: os.path.join(koa.PEERS, name)
        world.run("reference", program("prometheus"), f"--config.file={world.path('reference.yml')}",
                  f"--storage.tsdb.path={world.path('reference')}", "--web.enable-remote-write-receiver",
                  f"--web.listen-address=127.0.0.1:{self.reference_port}")
        eventually("the reference Prometheus", lambda: http(f"{self.reference}/-/ready")[0] == 200)
        world.run("node_exporter", program("prometheus-node-exporter"),
                  f"--web.listen-address=127.0.0.1:{self.node}")
        world.run("agent", program("prometheus"), "--enable-feature=agent",
                  f"--config.file={world.path('agent.yml')}", f"--storage.agent.path={world.path('agent')}",
                  f"--web.listen-address=127.0.0.1:{agent}")

    def exposed(self):
        text = http(f"http://127.0.0.1:{self.node}/metrics")[2].decode()
        return sum(1 for line in text.splitlines() if line and not line.startswith("#"))

    def between_samples(self, not_before=0.0):
        """A time a few seconds ago at which, and 60 s before which, no sample lies (the judge's
        ranges are closed on the left, ours open), and up to which all has been pushed."""
        data = api(self.reference, "query", query='up{job="node"}[5m]')
        times = [t for t, _ in data["result"][0]["values"]]
        known = {round(t * 1000) for t in times}
        at = round((times[-4] + times[-3]) / 2 * 1000)
        check(at / 1000 >= not_before, "the agent has not pushed on yet")
        while at in known or at - 60_000 in known:
            at += 1
        return at / 1000


QUERIES = [
    'rate(node_cpu_seconds_total[1m])',
    'increase(node_cpu_seconds_total{mode=~"user|system"}[1m])',
    'irate(node_network_receive_bytes_total[1m])',
    'sum by (mode) (rate(node_cpu_seconds_total[1m]))',
    'sum without (cpu, mode) (node_cpu_seconds_total)',
    'topk(3, node_cpu_seconds_total)',
    'node_memory_MemTotal_bytes - node_memory_MemFree_bytes',
    'node_filesystem_avail_bytes / on(device, mountpoint, fstype) node_filesystem_size_bytes',
    'avg_over_time(node_load1[1m])',
    'max_over_time(node_load1[1m]) > bool 0.5',
    'count by (__name__) ({job="node", __name__=~"node_.*"})',
    'count({job="node", __name__!~"go_.*"})',
    'histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds_bucket[1m]))',
    'node_load1 offset 5s',
    '{__name__=~"scrape_samples_.*"}',
]


def agree(query, reference, at, what):
    for q in QUERIES:
        same_vectors(instant(query, q, at), instant(reference, q, at), f"{what}: {q}")


def samples(base, at, seconds):
    data = api(base, "query", query=f'{{job="node"}}[{seconds}s]', time=f"{at:.3f}")
    return {tuple(sorted(s["metric"].items())): [(t, float(v)) for t, v in s["values"]] for s in data["result"]}


def same_samples(ours, peers, at, seconds):
    """Sample for sample: every series, every timestamp, every value."""
    a, b = samples(ours.query, at, seconds), samples(peers.reference, at, seconds)
    check(a.keys() == b.keys(), f"series: only ours {sorted(a.keys() - b.keys())[:2]}, only theirs "
                                f"{sorted(b.keys() - a.keys())[:2]}")
    for k in a:
        if repr(a[k]) != repr(b[k]):                   # NaN is no equal of itself, its text is
            raise koa.Failed(f"{dict(k)}: lost {sorted(set(b[k]) - set(a[k]))[:3]}, "
                             f"only ours {sorted(set(a[k]) - set(b[k]))[:3]}")


def pipeline(world, ours):
    peers = Peers(world, ours.push)
    eventually("some scrapes have arrived",
               lambda: one(ours.query, 'count_over_time(up{job="node"}[5m])') > 12, 60)
    eventually("our count is what the exporter exposes, and the agent's own series",
               lambda: one(ours.query, 'count({job="node"})') == peers.exposed() + len(OWN), 30)
    names = set(api(ours.query, "label/__name__/values"))
    check(OWN < names and "node_load1" in names, f"label values: {len(names)} names")
    check(set(api(ours.query, "labels")) == set(api(peers.reference, "labels")), "label names differ")
    key = lambda s: sorted(s.items())
    series = lambda base: sorted(api(base, "series", match='{__name__=~"node_cpu.*"}'), key=key)
    check(series(ours.query) == series(peers.reference), "series differ")

    at = peers.between_samples()
    agree(ours.query, peers.reference, at, "live")
    same_samples(ours, peers, at, 30)

    ours.flush_all()
    agree(ours.query, peers.reference, at, "after a flush")
    same_samples(ours, peers, at, 30)                  # now from filesets

    for p in ours.processes:                           # each in turn, while the agent pushes on
        p.kill()
        time.sleep(1)
        p.start()
        ours.ready()
        time.sleep(1)
    agree(ours.query, peers.reference, at, "after kill -9 of every process")
    same_samples(ours, peers, at, 30)
    done = time.time()

    def settled():
        late = peers.between_samples(not_before=done)
        same_samples(ours, peers, late, int(late - at) + 20)
        return True
    eventually("every sample that was pushed around the kills is there", settled, 90, 2)


def test_serve_answers_a_real_agents_samples_as_prometheus_does_through_flush_and_kill(world):
    pipeline(world, koa.Serve(world))


def test_cluster_answers_a_real_agents_samples_as_prometheus_does_through_flush_and_kill(world):
    pipeline(world, koa.Cluster(world))
