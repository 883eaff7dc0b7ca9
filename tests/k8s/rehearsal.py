#!/usr/bin/env python3
"""A rehearsal of the chart without a cluster: the pods of values-small.yaml run as processes (pods.py says how) under the chart's
network policies (policies.py), are probed as a kubelet would, and a pipeline goes through them: keys, pushes, questions, a flush, a
scale-down by the upgrade's job, a rolling restart of every pod by way of its preStop. Object storage is Ceph's radosgw, by the
chart's S3 settings and Secret (KOA_S3=none: a folder instead).

What is not values-small's: users of NATS by NKeys (nats.nkeysSecret). What is not the chart's: three ingestors, of which one goes, with a label for the zone of each, as a cluster with
PodTopologyLabelsAdmission sets it; logs of 64 MiB, so that three servers fit a laptop's disk; and where nats-server is older than
2.10, sync_interval and the pings of routes in its configuration, which it does not know.

    rehearsal.py --bin build/release/bin --peers build/peers/bin --helm build/k8s/helm/helm [--loopback] [--keep]
"""
import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(TOP, "tests", "e2e")]
import koa                  # noqa: E402
import koa_s3               # noqa: E402
import policies             # noqa: E402
from koa import Failed, check       # noqa: E402
from test_permissions import Nkey  # noqa: E402
from pods import NET, PodCluster, Stranger, alone  # noqa: E402

SERIES, SAMPLES = 200, 30
S3_HOST = "s3.default.svc"
ZONE = "topology.kubernetes.io/zone"


def object_storage(root):
    """The chart's values for it, the Secret, and what stands in for it if it is a folder."""
    if os.environ.get("KOA_S3") == "none":
        print("    KOA_S3=none: a folder stands in for S3", flush=True)
        return "store.url=dir:/objects", {"access_key": "unused", "secret_key": "unused"}, None
    if root:
        os.environ["KOA_S3_ADDRESS"] = NET + "1"
    koa_s3._start_rgw()
    port = urllib.parse.urlsplit(os.environ["KOA_S3_ENDPOINT"]).port
    values = f"store.url=s3://{os.environ['KOA_S3_BUCKET']}/rehearsal,store.s3.endpoint=http://{S3_HOST}:{port}"
    return values, {"access_key": os.environ["KOA_S3_ACCESS_KEY"], "secret_key": os.environ["KOA_S3_SECRET_KEY"]}, port


def documents(args, store, replicas, *more):
    chart = os.path.join(TOP, "k8s", "koalemos")
    p = subprocess.run([args.helm, "template", "koalemos", chart, "--namespace", "koalemos", "-f", os.path.join(chart, "values-small.yaml"),
                        "--set", f"{store},log.bytesMax=64MiB,ingestor.replicas={replicas},ingestor.zoneFromPodLabel=true,nats.nkeysSecret=koalemos-nkeys", *more],
                       capture_output=True, text=True)
    check(p.returncode == 0, p.stderr)
    return [d for d in yaml.safe_load_all(p.stdout) if d]


def make_keys(args, folder):
    """Three keys, and the file that goes into the Secret."""
    path, keys = os.path.join(folder, "keys"), {}
    for name, roles, tenants in (("write", "write", "team-a"), ("read", "read", "team-a"), ("admin", "admin,read", "*")):
        p = subprocess.run([os.path.join(args.bin, "koalemos"), "key", "new", "--file", path, "--roles", roles, "--tenants", tenants],
                           capture_output=True, text=True)
        check(p.returncode == 0, p.stderr)
        keys[name] = p.stdout.strip()
    with open(path) as f:
        return keys, f.read()


USERS = ("doorman", "ingestor", "querier", "agent", "operator")


def make_nkeys(folder):
    """Users of NATS, and the Secret that the chart wants of them."""
    os.makedirs(folder)
    keys = {u: Nkey(folder, u) for u in USERS}
    secret = {f"{u}.public": k.public for u, k in keys.items()}
    secret.update({f"{u}.seed": open(k.file).read() for u, k in keys.items() if u != "agent"})
    return secret


def nats_conf(args):
    said = subprocess.run([os.path.join(args.peers, "nats-server"), "--version"], capture_output=True, text=True).stdout
    version = tuple(int(n) for n in re.search(r"v(\d+)\.(\d+)", said).groups())
    if version >= (2, 10):
        return lambda key, text: text
    print(f"    {said.strip()} knows no sync_interval and no pings of routes: the rehearsal leaves them out; a cluster must not", flush=True)
    return lambda key, text: re.sub(r"sync_interval: always|ping_interval: 1s,?|ping_max: 3", "", text) if key == "nats.conf" else text


# ---- as a kubelet ----

def probe(pod, kind):
    c = pod.container
    get = c[kind]["httpGet"]
    port = next(p["containerPort"] for p in c["ports"] if get["port"] in (p["name"], p["containerPort"]))
    return koa.http(f"http://{pod.address}:{port}{get['path']}", timeout=5)


def wait_ready(pods, seconds=90):
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        for p in pods:
            def asked():
                check(p.child.poll() is None, f"{p.name} ended: {p.words()[-800:]}")
                status, _, body = probe(p, kind)
                return status == 200 or check(False, f"{status} {body[:200]!r}")
            try:
                koa.eventually(f"{p.name}: {kind}", asked, seconds)
            except Failed as e:
                raise Failed(f"{e}\n{p.words()[-1500:]}") from e


def run_job(pod):
    """Until it succeeds, as often as it may fail."""
    for _ in range(pod.owner["spec"]["backoffLimit"]):
        pod.start()
        status = pod.child.wait(120)
        pod.stop = lambda: 0
        pod.child = None
        if pod.cluster.root:
            subprocess.run(["ip", "link", "del", f"v{pod.number}"], capture_output=True)
        if status == 0:
            return
        time.sleep(1)
    raise Failed(f"{pod.name} does not succeed: {pod.words()[-800:]}")


# ---- the pipeline ----

def bearer(key, more=None):
    return {"Authorization": f"Bearer {key}", **(more or {})}


class Pipeline:
    """`client`: a pod of the namespace, from which it asks; None: this process."""

    def __init__(self, cluster, keys, client):
        self.cluster, self.keys, self.client = cluster, keys, client
        self.begin = (int(time.time()) - 1800) * 1000
        self.pushed = 0

    def http(self, *args, **kw):
        return policies.inside(self.client.child.pid, lambda: koa.http(*args, **kw)) if self.client else koa.http(*args, **kw)

    def more(self):
        body = koa.snappy(b"".join(koa.rw1_series({"__name__": "rehearsed", "n": str(n)},
                          [(self.begin + (self.pushed + k) * 1000, float(n)) for k in range(SAMPLES)]) for n in range(SERIES)))
        for d in self.cluster.of("doorman"):
            def taken():
                status, _, words = self.http(f"http://{d.address}:4480/api/v1/write", body, bearer(self.keys["write"], koa.RW1))
                return status == 204 or check(False, f"{d.name}: {status} {words[:300]!r}")
            koa.eventually("a push is taken", taken, 60)
            self.pushed += SAMPLES
            body = koa.snappy(b"".join(koa.rw1_series({"__name__": "rehearsed", "n": str(n)},
                              [(self.begin + (self.pushed + k) * 1000, float(n)) for k in range(SAMPLES)]) for n in range(SERIES)))

    def count(self, pod):
        """Samples of all series, as a querier counts them."""
        query = urllib.parse.urlencode({"query": "sum(count_over_time(rehearsed[2h]))", "time": self.begin // 1000 + 3600})
        status, _, body = self.http(f"http://{pod.address}:4482/api/v1/query?{query}", headers=bearer(self.keys["read"]))
        check(status == 200, f"{pod.name}: {status} {body[:300]!r}")
        answer = json.loads(body)
        check(not answer.get("warnings"), f"{pod.name}: {answer.get('warnings')}")
        return int(float(answer["data"]["result"][0]["value"][1])) if answer["data"]["result"] else 0

    def all_there(self, what):
        for q in self.cluster.of("querier"):
            koa.eventually(f"{what}: {q.name} counts {self.pushed * SERIES}", lambda: self.count(q) == self.pushed * SERIES or
                           check(False, f"{self.count(q)}"), 60)

    def cell(self, what):
        """Of any doorman, as an operator is told."""
        status, _, body = self.http(f"http://{self.cluster.of('doorman')[0].address}:4480/api/v1/koalemos/{what}",
                                    headers=bearer(self.keys["admin"]))
        check(status == 200, f"{what}: {status} {body[:300]!r}")
        return json.loads(body)["data"]

    def members(self):
        """{ingestor: partitions in which it has caught up}, and the least that a partition has of those."""
        has, least = {}, 99
        for p in self.cell("shard-map")["partitions"]:
            good = [m["node"] for m in p["members"] if m["state"] == "ready" and m["presence"] == "alive"]
            least = min(least, len(good))
            for m in p["members"]:
                has[m["node"]] = has.get(m["node"], 0) + (m["node"] in good)
        return has, least


def first_words(line):
    queriers, ingestors, keys = line.cluster.of("querier"), line.cluster.of("ingestor"), line.keys
    line.more()
    line.all_there("pushed")
    for path, key, wanted in (("/api/v1/query?query=1", None, 401), ("/api/v1/query?query=1", "write", 403), ("/metrics", "read", 403),
                              ("/metrics", "admin", 200), ("/config", "admin", 200)):
        status = line.http(f"http://{queriers[0].address}:4482{path}", headers=bearer(keys[key]) if key else {})[0]
        check(status == wanted, f"{path} with {key} key: {status}")
    for i in ingestors:
        status, _, words = line.http(f"http://{i.address}:4481/api/v1/admin/tsdb/flush", b"", bearer(keys["admin"]), method="POST")
        check(status == 204, f"{i.name}: flush: {status} {words[:300]!r}")
    line.all_there("flushed")
    print("ok  pushed, asked and flushed, with keys", flush=True)
    zones = {n["name"]: n["zone"] for n in line.cell("nodes")["nodes"]}
    check(zones == {i.name: i.labels[ZONE] for i in ingestors}, f"zones: {zones}")
    for p in line.cell("shard-map")["partitions"]:
        check(len({zones[m["node"]] for m in p["members"]}) == len(p["members"]), f"two copies in one zone: {p}")
    print("ok  ingestors know their zones, and no partition has two copies in one", flush=True)


def scale_down(line, args, store):
    """One ingestor less, as helm does: the upgrade's job first, then the pod."""
    koa.eventually("three have all of it twice", lambda: (lambda has, least: len(has) == 3 and least >= 2)(*line.members()), 90)
    last = line.cluster.of("ingestor")[-1]
    keep = [d for d in documents(args, store, 2, "--is-upgrade") if d["kind"] == "Job" and "keep" in d["metadata"]["name"]]
    check(len(keep) == 1 and keep[0]["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade", f"{keep}")
    job = line.cluster.add(keep)[0]
    run_job(job)
    has, least = line.members()
    check(last.name not in has and least >= 2, f"after the job {last.name} has {has}, and a partition {least} members: {job.words()}")
    line.more()
    check(last.stop() == 0, f"{last.name}: {last.words()[-800:]}")
    check("others have what it had" in last.said, f"preStop of one that was drained: {last.said}")
    line.cluster.pods.remove(last)
    line.more()
    line.all_there("with one ingestor less")
    print(f"ok  one ingestor less: others had its partitions before it went", flush=True)


def restart_all(line):
    cluster = line.cluster
    for p in (*cluster.of("ingestor"), *cluster.of("nats"), *cluster.of("querier"), *cluster.of("doorman")):
        if p in cluster.of("ingestor"):
            koa.eventually("who was restarted has all of it again", lambda: line.members()[1] >= 2 or check(False, f"{line.members()}"), 60)
        status = p.stop()
        check(status == 0 or p in cluster.of("nats"), f"{p.name} ended with {status}: {p.words()[-800:]}")
        check("another one, who has caught up" in p.said or p not in cluster.of("ingestor"), f"{p.name}: preStop: {p.said}")
        if p in cluster.of("ingestor"):
            line.all_there(f"while {p.name} is away")
        p.start()
        wait_ready([p])
        line.more()
    line.all_there("after each pod was restarted")
    koa.eventually("no mark is left", lambda: {n["mark"] for n in line.cell("nodes")["nodes"] if n["presence"] == "alive"} == {""} or
                   check(False, f"{line.cell('nodes')}"), 30)
    print(f"ok  each pod restarted in turn: {line.pushed * SERIES} samples, none lost, none twice", flush=True)


def audited(line, args):
    """Each service has a chain of its own, where only its volume is written; orders and refusals are in it."""
    for component, words in (("ingestor", '"event":"order"'), ("querier", '"event":"refused"')):
        pod = line.cluster.of(component)[0]
        volume = os.path.join(pod.folder, "volumes", *(("data", "audit") if component == "ingestor" else ("audit", pod.name)))
        if not line.cluster.root and component != "ingestor":
            volume = os.path.join(pod.folder, "volumes", "audit")
        p = subprocess.run([os.path.join(args.bin, "koalemos"), "audit", "verify", volume, "--name", component], capture_output=True, text=True)
        check(p.returncode == 0, f"{pod.name}: audit verify: {p.stdout} {p.stderr}")
        text = "".join(open(os.path.join(volume, f)).read() for f in os.listdir(volume) if f.endswith(".audit"))
        check(words in text, f"{pod.name}: no {words} in {text[-500:]}")
    print("ok  audit logs are whole, with the orders and the refusals", flush=True)


def walls(cluster, client, outside, s3_port):
    """Who reaches whom, as it should be, written here by hand: policies.py is not asked what it thinks."""
    doorman, ingestor, querier, nats = (cluster.of(c)[0] for c in ("doorman", "ingestor", "querier", "nats"))
    other = cluster.of("nats")[1]
    targets = {"doorman:4480": (doorman, 4480), "ingestor:4481": (ingestor, 4481), "querier:4482": (querier, 4482),
               "nats:4222": (other, 4222), "nats:6222": (other, 6222), "nats:8222": (other, 8222)}
    targets = {name: (pod.address, port) for name, (pod, port) in targets.items()}
    listener = socket.create_server((NET + "1", 0))
    targets["elsewhere"] = listener.getsockname()
    if s3_port:
        targets["s3"] = (NET + "1", s3_port)
    s3 = {"s3"} if s3_port else set()
    may = {doorman: {"nats:4222"}, ingestor: {"nats:4222"} | s3, querier: {"nats:4222"} | s3, nats: {"nats:6222"},
           client: {"doorman:4480", "ingestor:4481", "querier:4482", "elsewhere"} | s3, outside: {"elsewhere"} | s3}
    attempts = [(who.name, who.child.pid, to, *at) for who in may for to, at in targets.items()]
    attempts += [("a node", None, to, *at) for to, at in targets.items()]
    seen = policies.matrix(attempts)
    listener.close()
    bad = [f"a node does not reach {to}: nothing listens, and the rest shows nothing" for to in targets if not seen[("a node", to)]]
    bad += [f"{who.name} {'reaches' if seen[(who.name, to)] else 'does not reach'} {to}" for who, allowed in may.items() for to in targets
            if seen[(who.name, to)] != (to in allowed) and not (who is doorman and to == "doorman:4480" or who is ingestor and to == "ingestor:4481"
                                                                 or who is querier and to == "querier:4482")]
    check(not bad, "network policies: " + "; ".join(bad))
    stopped = sum(not v for v in seen.values())
    print(f"ok  network policies: of {len(seen)} ways between pods, clients and strangers {stopped} are closed, as they should be", flush=True)


def rehearse(args, folder, root):
    keys, file = make_keys(args, folder)
    store, s3, s3_port = object_storage(root)
    secrets = {"koalemos-keys": {"keys": file}, "koalemos-s3": s3, "koalemos-nkeys": make_nkeys(os.path.join(folder, "nkeys"))}
    programs = {p: os.path.join(args.bin, p) for p in ("doorman", "ingestor", "querier", "koalemos")}
    programs["nats-server"] = os.path.join(args.peers, "nats-server")
    programs = {name: os.path.realpath(path) for name, path in programs.items()}
    docs = documents(args, store, 3)
    objects = None if s3_port else os.path.join(folder, "objects")
    cluster = PodCluster(docs, folder, programs, secrets, nats_conf(args), root, objects, {S3_HOST: [NET + "1" if root else "127.0.0.1"]})
    for n, i in enumerate(cluster.of("ingestor")):
        i.labels[ZONE] = "abc"[n]
    client = outside = None
    try:
        why = policies.usable() if root else "pods on loopback have no namespaces"
        if why is None:
            client, outside = Stranger(cluster, "agent", "koalemos", {"app": "agent"}), Stranger(cluster, "stranger", "default", {"app": "agent"})
            namespaces = {n: {"kubernetes.io/metadata.name": n} for n in ("koalemos", "default")}
            cluster.policies = policies.Policies(docs, "koalemos", [*cluster.pods, *cluster.strangers], namespaces, NET + "1")
        else:
            print(f"    SKIPPED: network policies by their effect: {why}", flush=True)
        for p in cluster.of("nats"):
            p.start()
        wait_ready(cluster.of("nats"))
        for p in cluster.of("init"):
            run_job(p)
        services = [p for c in ("ingestor", "doorman", "querier") for p in cluster.of(c)]
        for p in services:
            p.start()
        wait_ready(services)
        print(f"ok  {len(cluster.pods)} pods run {'in namespaces' if root else 'on loopback'}, and their probes are answered", flush=True)
        line = Pipeline(cluster, keys, client)
        first_words(line)
        if cluster.policies is not None:
            walls(cluster, client, outside, s3_port)
        scale_down(line, args, store)
        restart_all(line)
        audited(line, args)
        for p in [*reversed([p for c in ("ingestor", "doorman", "querier") for p in cluster.of(c)]), *cluster.of("nats")]:
            status = p.stop()
            check(status == 0 or p in cluster.of("nats"), f"{p.name} ended with {status}: {p.words()[-800:]}")
        print("ok  every pod ends within its grace period", flush=True)
        for p in cluster.pods:
            bad = [w for w in p.words().splitlines() if "Permissions Violation" in w or "Authorization Violation" in w]
            check(not bad, f"{p.name}: {bad[:3]}")
        print("ok  nobody was refused anything by NATS", flush=True)
    finally:
        cluster.end()


def main():
    p = argparse.ArgumentParser()
    for flag in ("--bin", "--peers", "--helm"):
        p.add_argument(flag, type=os.path.abspath, required=True)
    p.add_argument("--loopback", action="store_true")
    p.add_argument("--keep", action="store_true")
    args = p.parse_args()
    koa.BIN, koa.PEERS = args.bin, args.peers
    root = os.geteuid() == 0 and not args.loopback
    if root:
        alone()
    else:
        print("    not root, or told so: pods on loopback, with this user's rights", flush=True)
    folder = tempfile.mkdtemp(prefix="koalemos-rehearsal-")
    os.chmod(folder, 0o755)
    try:
        rehearse(args, folder, root)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except (Failed, subprocess.TimeoutExpired) as e:
        sys.exit(f"failed: {e}")
