"""What dashboards and alert rules name is there."""
import glob
import json
import os
import re
import subprocess
import urllib.parse

import koa
from koa import check, http
from koa_cell import Cell

FILES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "k8s", "koalemos", "files")


def named():
    """Every metric that an expression names, without what a histogram's series end in."""
    names = {}
    for path in glob.glob(os.path.join(FILES, "**", "*.*"), recursive=True):
        with open(path) as f:
            for name in re.findall(r"\bkoalemos_[a-z0-9_]+", f.read()):
                names.setdefault(re.sub(r"_(bucket|sum|count)$", "", name), os.path.basename(path))
    return names


def test_every_metric_of_the_dashboards_and_alerts_is_told_by_some_service(world):
    cell = Cell(world, "--store.cache.dir", world.path("cache"))
    told = set()
    for p in cell.processes[len(cell.nats):]:
        status, _, body = http(f"{cell.url(p.name)}/metrics")
        check(status == 200, f"{p.name}: {status}")
        told |= set(re.findall(r"^# TYPE (\S+)", body.decode(), re.M))
    wanted = named()
    check(len(wanted) > 50, f"only {len(wanted)} are named")
    s3 = ("koalemos_store_requests_total", "koalemos_store_failures_total")        # there is none here
    missing = {n: f for n, f in wanted.items() if n not in told and n not in s3}
    check(not missing, f"nobody tells {missing}")


def test_every_expression_of_the_dashboards_is_one_and_the_rules_pass_promtool(world):
    ours = koa.Serve(world)
    count = 0
    for path in glob.glob(os.path.join(FILES, "dashboards", "*.json")):
        with open(path) as f:
            board = json.load(f)
        check(len({p["id"] for p in board["panels"]}) == len(board["panels"]), f"{path}: two panels with one id")
        for panel in board["panels"]:
            for target in panel["targets"]:
                text = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "1h")
                status, _, body = http(f"{ours.query}/api/v1/query?" + urllib.parse.urlencode({"query": text}))
                check(status == 200, f"{os.path.basename(path)}, {panel['title']}: {body[:300]!r}")
                count += 1
    check(count > 40, f"only {count} expressions")
    said = subprocess.run([os.path.join(koa.PEERS, "promtool"), "check", "rules", os.path.join(FILES, "alerts.yaml")],
                          capture_output=True, text=True, timeout=60)
    check(said.returncode == 0, f"{said.stdout} {said.stderr}")
