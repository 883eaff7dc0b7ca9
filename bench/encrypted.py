"""What `encryption.keys` costs `koalemos serve`: the same pushes, snapshots, flush, queries and restart over a plain folder and
an encrypted one, in turns. Prints JSON lines: CPU seconds of the server (restart: seconds until it is ready), least of the rounds."""
import argparse
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "e2e"))
import koa                                              # noqa: E402


def one(a, world, name, flags):
    data = world.path(name)
    serve = koa.Serve(world, "--ingestor.snapshot_interval", "2s", "--ingestor.spill_least", "1", *flags, name=name, data=data)
    step, at = 15_000, int(time.time() * 1000)
    begin = at - a.samples * step
    got = {}

    def span(what, does):
        before = serve.process.cpu_seconds()
        does()
        got[what] = round(serve.process.cpu_seconds() - before, 2)

    def push():
        subprocess.run([a.push, str(serve.port), str(a.series), "0", str(a.samples), "1000", "4", "2", str(begin), str(step), "0"],
                       check=True, stdout=subprocess.DEVNULL)

    def ask():
        for n in range(a.queries):
            koa.http(f"{serve.query}/api/v1/query?query=sum(count_over_time({{__name__=~'.%2B'}}[1h]))&time={at / 1000 + n}")

    span("push", push)
    span("snapshots", lambda: time.sleep(5))
    span("query live", ask)
    serve.process.kill()
    started = time.monotonic()
    serve.process.start()
    serve.ready()
    got["restart s"] = round(time.monotonic() - started, 2)
    span("flush", serve.flush_all)
    span("query filesets", ask)
    got["folder MiB"] = round(sum(os.path.getsize(os.path.join(d, n)) for d, _, names in os.walk(data) for n in names) / 2**20, 1)
    koa.check(serve.process.stop() == 0, "stop")
    return got


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--push", required=True)
    p.add_argument("--series", type=int, default=20_000)
    p.add_argument("--samples", type=int, default=100)
    p.add_argument("--queries", type=int, default=5)
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    koa.BIN = a.bin
    best = {}
    with koa.World() as world:
        keys = world.path("keys")
        with open(keys, "w") as f:
            f.write(os.urandom(32).hex())
        for r in range(a.rounds):
            for kind, flags in (("plain", []), ("encrypted", ["--encryption.keys.file", keys])):
                got = one(a, world, f"{kind}-{r}", flags)
                best[kind] = {k: min(v, best.get(kind, got)[k]) for k, v in got.items()}
    for kind, got in best.items():
        print(json.dumps({"folder": kind, "samples": a.series * a.samples, **got}), flush=True)


main()
