#!/usr/bin/env python3
"""What tracing costs `koalemos serve`, in CPU microseconds of the whole process.

    bench/traces.py --bin build/release/bin [--rounds 3]

Three servers side by side: without a collector, with one but nothing sampled, with everything sampled; each is pushed 100
series of a sample 1,500 times, and asked for one series 3,000 times, in rounds that take turns. One JSON line a server: medians.
"""
import argparse
import http.client
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import koa  # noqa: E402
import test_traces  # noqa: E402

KINDS = {"off": [], "idle": ["--trace.otlp_url"], "all": ["--trace.sample_one_in=1", "--trace.otlp_url"]}


def cost(ours, count, once):
    """CPU of a call, what the process does in the second after them counted."""
    before = ours.process.cpu_seconds()
    for i in range(count):
        once(i)
    time.sleep(1.2)
    return (ours.process.cpu_seconds() - before) / count * 1e6


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    koa.BIN = os.path.abspath(a.bin)
    with koa.World() as world:
        collector = test_traces.Collector(world)
        servers = {}
        for name, flags in KINDS.items():
            flags = flags + [collector.url] if flags else flags
            ours = koa.Serve(world, *flags, name=name, data=world.path(f"data-{name}"))
            test_traces.fill(ours)
            servers[name] = (ours, http.client.HTTPConnection("127.0.0.1", ours.port), [], [])
        now = int(time.time() * 1000)
        for n in range(a.rounds):
            bodies = [koa.snappy(b"".join(koa.rw1_series({"__name__": "m", "i": str(i)}, [(now + n * 500 + k, k)])
                                          for i in range(100))) for k in range(500)]
            for ours, connection, pushes, questions in servers.values():
                def push(i):
                    connection.request("POST", "/api/v1/write", bodies[i], koa.RW1)
                    answer = connection.getresponse()
                    koa.check(answer.status == 204, f"{answer.status} {answer.read()!r}")
                    answer.read()

                def ask(i):
                    connection.request("GET", "/api/v1/query?query=told%7Bn=%227%22%7D")
                    answer = connection.getresponse()
                    koa.check(answer.status == 200, f"{answer.status}")
                    answer.read()
                pushes.append(cost(ours, 500, push))
                questions.append(cost(ours, 1000, ask))
        for name, (ours, _, pushes, questions) in servers.items():
            print(json.dumps({"tracing": name, "push_us": round(statistics.median(pushes)),
                              "query_us": round(statistics.median(questions))}))
        print(json.dumps({"spans": len(collector.spans)}))


if __name__ == "__main__":
    main()
