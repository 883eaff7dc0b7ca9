"""deploy/METRICS.md says what each metric is; it is made of what running services tell: `make metrics-doc`."""
import os
import re

import koa
from koa import check, eventually, http
from koa_cell import Cell

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy", "METRICS.md")
GROUPS = [("koalemos_doorman_", "Doorman"), ("koalemos_ingestor_", "Ingestor"), ("koalemos_querier_", "Querier"),
          ("koalemos_cluster_", "The cell, as the coordinator sees it"), ("koalemos_bus_", "Bus"),
          ("koalemos_store_", "Object storage, and its cache on disk"), ("koalemos_http_", "HTTP"),
          ("koalemos_grpc_", "gRPC"), ("koalemos_trace_", "Traces"), ("koalemos_", "Of every process"),
          ("", "Of every process, by the names that Prometheus' clients use")]


def tell(found, service, base):
    """Adds what a service tells: {metric: [kind, help, its labels, those who tell it]}."""
    status, _, body = http(f"{base}/metrics")
    check(status == 200, f"{service}: {status}")
    helps, kinds = {}, {}
    for line in body.decode().splitlines():
        if line.startswith("# "):
            _, what, name, rest = line.split(" ", 3)
            (helps if what == "HELP" else kinds)[name] = rest
            continue
        series, labels = re.match(r"([^{ ]+)(?:\{(.*)\})? ", line).groups()
        name = series if series in kinds else re.sub(r"_(bucket|sum|count)$", "", series)
        check(name in kinds and name in helps, f"{service}: {series} has no help or type")
        entry = found.setdefault(name, [kinds[name], helps[name], set(), set()])
        check(entry[1] == helps[name], f"{name} has two helps: {entry[1]!r} and {helps[name]!r}")
        entry[2].update(re.findall(r'([a-z_]+)="', labels or ""))
        entry[3].add(service)


def everything(world):
    """Of services with everything on that registers metrics."""
    found = {}
    grpc = koa.free_port()
    cell = Cell(world, "--store.cache.dir", world.path("cache"), f"--otlp.grpc_listen=127.0.0.1:{grpc}")
    for p in cell.processes[len(cell.nats):]:
        tell(found, re.sub(r"-\d+$", "", p.name), cell.url(p.name))
    # Its object storage cannot be reached: it waits for that, and tells of it.
    with open(world.path("key"), "w") as f:
        f.write("anything\n")
    alone = koa.Serve(world, "--store.url=s3://nowhere/at-all", f"--store.s3.endpoint=http://127.0.0.1:{koa.free_port()}",
                      "--store.s3.access_key.file", world.path("key"),
                      "--store.s3.secret_key.file", world.path("key"), ready=False)
    eventually("it listens", lambda: http(f"{alone.push}/-/healthy")[0] == 200)
    tell(found, "serve", alone.push)
    return found


def page(found):
    lines = ["# Metrics", "",
             "Each process tells them at `/metrics`, in Prometheus' text format. The first labels that a scrape adds, `job` and",
             "`instance`, tell processes apart. `koalemos serve` tells what all three services do.",
             "This page is made by `make metrics-doc` from what running services say; a test refuses one that is stale.",
             "Rates, quantiles and alerts over them: `k8s/koalemos/files/` has dashboards and rules.", ""]
    left = dict(found)
    for prefix, title in GROUPS:
        names = sorted(n for n in left if n.startswith(prefix))
        if not names:
            continue
        lines += [f"## {title}", "", "| metric | kind | labels | what it is | told by |", "|---|---|---|---|---|"]
        for name in names:
            kind, words, labels, services = left.pop(name)
            told = "all" if len(services) >= 4 else ", ".join(sorted(services - {"serve"} or services))
            lines.append(f"| `{name}` | {kind} | {', '.join(sorted(labels - {'le'}))} | {words} | {told} |")
        lines.append("")
    return "\n".join(lines)


def test_the_page_of_metrics_is_what_services_tell(world):
    text = page(everything(world))
    if os.environ.get("KOA_WRITE_METRICS"):
        with open(PAGE, "w") as f:
            f.write(text)
    with open(PAGE) as f:
        was = f.read()
    new, old = set(text.splitlines()), set(was.splitlines())
    check(text == was, "deploy/METRICS.md is stale; make metrics-doc makes it anew.\n"
          + "\n".join(["not on it: " + line for line in sorted(new - old)[:10]]
                      + ["no more true: " + line for line in sorted(old - new)[:10]]))
