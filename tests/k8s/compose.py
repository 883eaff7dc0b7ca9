#!/usr/bin/env python3
"""deploy/compose.yaml without Docker: each service's command, environment, configs, secrets, volumes, user and read-only root as a
process in a network and a mount namespace (pods.py), by the names that they have there; its health checks asked, its order of starts
kept. The agent's scrapes go through the whole of it, and then every panel of every dashboard has to show something.

What is not the file's: radosgw in the place of MinIO, and its bucket; the agent scrapes each 2 s; Debian's nats-server 2.9 is spared
`sync_interval` and the pings of routes, and its Prometheus 2 wants another word for --agent. Grafana is in no package of Debian's and is left out: what it
would ask is asked. Needs root.

    compose.py --bin build/release/bin --peers build/peers/bin [--keep]
"""
import argparse
import glob
import json
import os
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
import koa_s3               # noqa: E402
import policies             # noqa: E402
from koa import Failed, check       # noqa: E402
from pods import NET, PodCluster, alone  # noqa: E402
from rehearsal import nats_conf     # noqa: E402

DEPLOY = os.path.join(TOP, "deploy")
BOARDS = os.path.join(TOP, "k8s", "koalemos", "files", "dashboards")
# Image -> what it runs without `entrypoint`; None: there is no such program here.
IMAGES = {"koalemos": "/usr/bin/koalemos", "nats": "/usr/bin/nats-server", "prom/prometheus": "/usr/bin/prometheus",
          "minio/minio": None, "minio/mc": None, "grafana/grafana": None}
IMAGE_VOLUMES = {"koalemos": ["/var/lib/koalemos"], "prom/prometheus": ["/prometheus"]}


def image(service):
    return service["image"].split(":")[0]


def as_pod(name, s):
    """A service, as a document that pods.py runs. Users are 10001: that of our image, and of who owns the folders here."""
    mounts, volumes = [], []

    def mount(volume, path, **more):
        volumes.append({"name": f"v{len(volumes)}", **volume})
        mounts.append({"name": volumes[-1]["name"], "mountPath": path, **more})
    for c in s.get("configs", []):
        mount({"configMap": {"name": c["source"]}}, c["target"], subPath="content", readOnly=True)
    for secret in s.get("secrets", []):
        mount({"secret": {"secretName": secret, "defaultMode": 0o444}}, f"/run/secrets/{secret}", subPath="content", readOnly=True)
    paths = [v.split(":")[1] for v in s.get("volumes", [])] + [t.split(":")[0] for t in s.get("tmpfs", [])]
    for path in paths + [p for p in IMAGE_VOLUMES.get(image(s), []) if p not in paths]:
        mount({}, path)
    user = {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001}
    env = {"HOSTNAME": s.get("hostname", name), **s.get("environment", {})}
    command = [w.replace("$$", "$") for w in s.get("command", [])]
    container = {"name": name, "command": s.get("entrypoint", [IMAGES[image(s)]]), "args": command, "volumeMounts": mounts,
                 "securityContext": {"readOnlyRootFilesystem": s.get("read_only", False)}, "env": [{"name": k, "value": v} for k, v in env.items()]}
    grace = {"1m": 60, None: 10}[s.get("stop_grace_period")]
    return {"kind": "Deployment", "metadata": {"name": name}, "spec": {"template": {
        "metadata": {"labels": {"app.kubernetes.io/component": name}},
        "spec": {"containers": [container], "volumes": volumes, "securityContext": user, "terminationGracePeriodSeconds": grace}}}}


def bucket():
    """What `mc mb -p` does."""
    p = subprocess.run(["curl", "--noproxy", "*", "-sf", "--aws-sigv4", "aws:amz:us-east-1:s3", "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD",
                        "--user", f"{os.environ['KOA_S3_ACCESS_KEY']}:{os.environ['KOA_S3_SECRET_KEY']}", "-X", "PUT",
                        os.environ["KOA_S3_ENDPOINT"] + "/koalemos"], capture_output=True, text=True)
    check(p.returncode == 0, f"the bucket: {p.stderr}")


class Compose:
    def __init__(self, args, folder):
        with open(os.path.join(DEPLOY, "compose.yaml")) as f:
            self.file = yaml.safe_load(f)
        self.services = self.file["services"]
        unknown = {image(s) for s in self.services.values()} - set(IMAGES)
        check(not unknown, f"images that this test knows nothing of: {unknown}")
        os.environ.update(KOA_S3_ADDRESS=NET + "1", KOA_S3_PORT="9000")
        koa_s3._start_rgw()
        bucket()
        docs = [as_pod(n, s) for n, s in self.services.items() if IMAGES[image(s)]]
        for name, c in self.file["configs"].items():
            with open(os.path.join(DEPLOY, c["file"])) as f:
                docs.append({"kind": "ConfigMap", "metadata": {"name": name}, "data": {"content": f.read()}})
        for secret, s in self.file["secrets"].items():
            check("file" in s, f"secret {secret}: Compose puts only files into a container that is read-only")
        secrets = {"s3_access_key": {"content": os.environ["KOA_S3_ACCESS_KEY"] + "\n"}, "s3_secret_key": {"content": os.environ["KOA_S3_SECRET_KEY"] + "\n"}}
        programs = {p: os.path.realpath(os.path.join(args.bin, p)) for p in ("doorman", "ingestor", "querier", "koalemos")}
        programs.update({p: os.path.realpath(os.path.join(args.peers, p)) for p in ("nats-server", "prometheus")})
        sync = nats_conf(args)

        def edit(key, text):
            return sync("nats.conf", text).replace("scrape_interval: 15s", "scrape_interval: 2s") if "$HOSTNAME" in text or "scrape" in text else text
        self.cluster = PodCluster(docs, folder, programs, secrets, edit, True, None, {"s3": [NET + "1"]})
        self.pods = {p.owner["metadata"]["name"]: p for p in self.cluster.pods}
        self.cluster.more_names.update({n: [p.address] for n, p in self.pods.items()})
        agent = self.pods["prometheus-agent"].container
        agent["args"] = ["--enable-feature=agent" if w == "--agent" else w for w in agent["args"]]
        self.left_out = [n for n, s in self.services.items() if IMAGES[image(s)] is None]
        print(f"    SKIPPED: no program for {', '.join(self.left_out)}; radosgw is s3", flush=True)
        self.ended = {}

    # ---- the order of starts ----

    def healthy(self, name):
        test = self.services[name]["healthcheck"]["test"]
        check(test[:3] == ["CMD", "wget", "-qO-"] and len(test) == 4, f"{name}: a health check that this test cannot ask: {test}")
        try:
            return policies.inside(self.pods[name].child.pid, lambda: koa.http(test[3], timeout=5))[0] == 200
        except OSError:
            return False

    def met(self, other, condition):
        if other in self.left_out:
            return True
        pod = self.pods[other]
        if condition == "service_started":
            return pod.child is not None or other in self.ended
        if condition == "service_completed_successfully":
            return self.ended.get(other) == 0
        check(condition == "service_healthy", condition)
        return pod.child is not None and self.healthy(other)

    def step(self):
        for name, pod in self.pods.items():
            s = self.services[name]
            if pod.child is not None and pod.child.poll() is not None:
                check(self.ended.get(name) is None, f"{name} ended: {pod.words()[-1500:]}")
                status = pod.child.wait(1)
                check(status == 0 or s.get("restart") in ("on-failure", "unless-stopped"), f"{name}: {status}: {pod.words()[-1500:]}")
                self.gone(pod)
                if status == 0:
                    self.ended[name] = 0
            if pod.child is None and name not in self.ended:
                wants = s.get("depends_on", {})
                wants = wants if isinstance(wants, dict) else {other: {"condition": "service_started"} for other in wants}
                if all(self.met(other, how["condition"]) for other, how in wants.items()):
                    pod.start()

    def gone(self, pod):
        pod.child = None
        subprocess.run(["ip", "link", "del", f"v{pod.number}"], capture_output=True)

    def up(self):
        end = time.monotonic() + 120
        while True:
            self.step()
            waiting = [n for n, p in self.pods.items() if p.child is None and n not in self.ended]
            unready = [n for n in ("doorman", "ingestor-0", "ingestor-1", "querier") if n not in waiting and not self.ready(n)]
            if not waiting and not unready:
                break
            if time.monotonic() > end:
                raise Failed(f"not up: {waiting} wait, {unready} are not ready: " +
                             "".join(self.pods[n].words()[-1000:] for n in unready))
            time.sleep(0.3)
        print(f"ok  {len(self.pods)} services of compose.yaml run in their order, by their names", flush=True)

    def url(self, name):
        port = next((w.split(":")[-1] for w in self.pods[name].container["args"] if w.startswith("--listen=")), None)
        return f"http://{self.pods[name].address}:{port}"

    def ready(self, name):
        try:
            return koa.http(self.url(name) + "/-/ready", timeout=5)[0] == 200
        except OSError:
            return False

    def ask(self, text):
        body = urllib.parse.urlencode({"query": text}).encode()         # as Grafana, by POST
        status, _, answer = koa.http(f"{self.url('querier')}/api/v1/query", body, {"Content-Type": "application/x-www-form-urlencoded"})
        check(status == 200, f"{text}: {status} {answer[:300]!r}")
        return json.loads(answer)["data"]["result"]


def published(c):
    """What is published leads to a listener, and to this machine alone: there are no keys."""
    for name, s in c.services.items():
        for p in s.get("ports", []):
            host, _, inside = p.rsplit(":", 2)
            check(host == "127.0.0.1", f"{name} is published to {host}, and there are no keys")
            check(name in c.left_out or c.url(name).endswith(":" + inside), f"{name}: {p}")


def pipeline(c):
    """Text in, and the agent's scrapes; both are answered."""
    status, _, words = koa.http(c.url("doorman") + "/api/v1/import/prometheus", b'composed{a="b"} 7\n', {"Content-Type": "text/plain"})
    check(status == 204, f"a push: {status} {words[:200]!r}")
    koa.eventually("it is answered", lambda: [r["value"][1] for r in c.ask("composed")] == ["7"], 30)
    koa.eventually("the agent's scrapes of all four are there", lambda: len(c.ask('up{job="koalemos"} == 1')) == 4 or
                   check(False, f"{c.ask('up')}, {c.pods['prometheus-agent'].words()[-1500:]}"), 60)
    print("ok  a push and what the agent scrapes of every service are answered", flush=True)


def panels(c):
    """After some flushes and questions each panel of each dashboard shows something."""
    empty = {}
    for path in sorted(glob.glob(os.path.join(BOARDS, "*.json"))):
        with open(path) as f:
            board = json.load(f)
        for panel in board["panels"]:
            for n, target in enumerate(panel.get("targets", [])):
                text = target["expr"].replace("$__rate_interval", "15s").replace("$__range", "1m")
                empty[(os.path.basename(path), panel["title"], n)] = text
    count, end = len(empty), time.monotonic() + 90
    while empty and time.monotonic() < end:
        for i in ("ingestor-0", "ingestor-1"):
            koa.http(c.url(i) + "/api/v1/admin/tsdb/flush", b"", method="POST")
        koa.http(c.url("querier") + "/api/v1/query_range?" + urllib.parse.urlencode(
            {"query": 'sum by (instance) (rate({__name__=~"koalemos_.*"}[10s]))', "start": int(time.time()) - 600, "end": int(time.time()), "step": 5}))
        time.sleep(2)
        empty = {k: text for k, text in empty.items() if not c.ask(text)}
    bad = [f"{k}: {text}" for k, text in empty.items()]
    check(not bad, f"{len(bad)} of {count} expressions show nothing:\n" + "\n".join(bad))
    print(f"ok  {count} expressions of the dashboards' panels, and each shows something", flush=True)


def main():
    p = argparse.ArgumentParser()
    for flag in ("--bin", "--peers"):
        p.add_argument(flag, type=os.path.abspath, required=True)
    p.add_argument("--keep", action="store_true")
    args = p.parse_args()
    if os.geteuid() != 0:
        print("SKIPPED: compose.yaml as processes: namespaces take root")
        return
    koa.BIN, koa.PEERS = args.bin, args.peers
    alone()
    folder = tempfile.mkdtemp(prefix="koalemos-compose-")
    os.chmod(folder, 0o755)
    c = None
    try:
        c = Compose(args, folder)
        published(c)
        c.up()
        pipeline(c)
        panels(c)
        for name in ("prometheus-agent", "querier", "doorman", "ingestor-0", "ingestor-1", "nats-0", "nats-1", "nats-2"):
            status = c.pods[name].stop()
            check(status == 0 or name.startswith("nats"), f"{name} ended with {status}: {c.pods[name].words()[-800:]}")
        print("ok  every service ends within its stop_grace_period", flush=True)
    finally:
        if c is not None:
            c.cluster.end()
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except (Failed, subprocess.TimeoutExpired) as e:
        sys.exit(f"failed: {e}")
