#!/usr/bin/env python3
"""A rehearsal of the chart without a cluster: the pods of values-small.yaml run as processes (pods.py says how), are probed as a
kubelet would, and a pipeline goes through them: keys, pushes, questions, a flush, a rolling restart of every pod.

What is not the chart's: a folder in the place of S3; logs of 64 MiB, so that three servers fit a laptop's disk; and where
nats-server is older than 2.10, the line sync_interval of its configuration, which it does not know.

    rehearsal.py --bin build/release/bin --peers build/peers/bin --helm build/k8s/helm/helm [--loopback] [--keep]
"""
import argparse
import json
import os
import re
import shutil
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
from koa import Failed, check       # noqa: E402
from pods import PodCluster, alone  # noqa: E402

SERIES, SAMPLES = 200, 30


def documents(args):
    chart = os.path.join(TOP, "k8s", "koalemos")
    p = subprocess.run([args.helm, "template", "koalemos", chart, "--namespace", "koalemos", "-f", os.path.join(chart, "values-small.yaml"),
                        "--set", "store.url=dir:/objects,log.bytesMax=64MiB"], capture_output=True, text=True)
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


def nats_conf(args):
    said = subprocess.run([os.path.join(args.peers, "nats-server"), "--version"], capture_output=True, text=True).stdout
    version = tuple(int(n) for n in re.search(r"v(\d+)\.(\d+)", said).groups())
    if version >= (2, 10):
        return lambda key, text: text
    print(f"    {said.strip()} knows no sync_interval: the rehearsal leaves it out; a cluster must not", flush=True)
    return lambda key, text: text.replace("sync_interval: always", "") if key == "nats.conf" else text


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


def push(pod, keys, offset, begin):
    body = koa.snappy(b"".join(koa.rw1_series({"__name__": "rehearsed", "n": str(n)},
                      [(begin + (offset + k) * 1000, float(n)) for k in range(SAMPLES)]) for n in range(SERIES)))
    return koa.http(f"http://{pod.address}:4480/api/v1/write", body, bearer(keys["write"], koa.RW1))


def count(pod, keys, begin):
    """Samples of all series, as a querier counts them."""
    end = begin // 1000 + 3600
    query = urllib.parse.urlencode({"query": "sum(count_over_time(rehearsed[2h]))", "time": end})
    status, _, body = koa.http(f"http://{pod.address}:4482/api/v1/query?{query}", headers=bearer(keys["read"]))
    check(status == 200, f"{pod.name}: {status} {body[:300]!r}")
    answer = json.loads(body)
    check(not answer.get("warnings"), f"{pod.name}: {answer.get('warnings')}")
    return int(float(answer["data"]["result"][0]["value"][1])) if answer["data"]["result"] else 0


def pipeline(cluster, keys):
    doormen, ingestors, queriers = (cluster.of(c) for c in ("doorman", "ingestor", "querier"))
    begin = (int(time.time()) - 1800) * 1000
    pushed = 0

    def more():
        nonlocal pushed
        for d in doormen:
            def taken():
                status, _, words = push(d, keys, pushed, begin)
                return status == 204 or check(False, f"{d.name}: {status} {words[:300]!r}")
            koa.eventually("a push is taken", taken, 60)
            pushed += SAMPLES

    def all_there(what):
        for q in queriers:
            koa.eventually(f"{what}: {q.name} counts {pushed * SERIES}", lambda: count(q, keys, begin) == pushed * SERIES or
                           check(False, f"{count(q, keys, begin)}"), 60)

    more()
    all_there("pushed")
    for path, key, wanted in (("/api/v1/query?query=1", None, 401), ("/api/v1/query?query=1", "write", 403), ("/metrics", "read", 403),
                              ("/metrics", "admin", 200), ("/config", "admin", 200)):
        status = koa.http(f"http://{queriers[0].address}:4482{path}", headers=bearer(keys[key]) if key else {})[0]
        check(status == wanted, f"{path} with {key} key: {status}")
    for i in ingestors:
        status, _, words = koa.http(f"http://{i.address}:4481/api/v1/admin/tsdb/flush", b"", bearer(keys["admin"]), method="POST")
        check(status == 204, f"{i.name}: flush: {status} {words[:300]!r}")
    all_there("flushed")
    print("ok  pushed, asked and flushed, with keys", flush=True)
    for p in (*ingestors, *cluster.of("nats"), *queriers, *doormen):
        status = p.stop()
        check(status == 0 or p in cluster.of("nats"), f"{p.name} ended with {status}: {p.words()[-800:]}")
        p.start()
        wait_ready([p])
        more()
    all_there("after each pod was restarted")
    print(f"ok  each pod restarted in turn: {pushed * SERIES} samples, none lost, none twice", flush=True)


def rehearse(args, folder, root):
    keys, file = make_keys(args, folder)
    secrets = {"koalemos-keys": {"keys": file}, "koalemos-s3": {"access_key": "unused", "secret_key": "unused"}}
    programs = {p: os.path.join(args.bin, p) for p in ("doorman", "ingestor", "querier", "koalemos")}
    programs["nats-server"] = os.path.join(args.peers, "nats-server")
    programs = {name: os.path.realpath(path) for name, path in programs.items()}
    cluster = PodCluster(documents(args), folder, programs, secrets, nats_conf(args), root)
    try:
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
        pipeline(cluster, keys)
        for p in [*reversed(services), *cluster.of("nats")]:
            status = p.stop()
            check(status == 0 or p in cluster.of("nats"), f"{p.name} ended with {status}: {p.words()[-800:]}")
        print("ok  every pod ends within its grace period", flush=True)
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


try:
    main()
except (Failed, subprocess.TimeoutExpired) as e:
    sys.exit(f"failed: {e}")
