"""What one question may cost: memory, samples, time, its turn; and that nobody works for who has left."""
import json
import socket
import threading
import time
from urllib.parse import urlencode

import koa
from koa import check, eventually, http, metric, push


def load(ours, series=2000, samples=20):
    now = int(time.time() * 1000)
    for begin in range(0, series, 500):
        status, words = push(ours.push, [({"__name__": "wide", "n": str(n), "text": "x" * 50}, [(now - i * 15000, float(n + i)) for i in range(samples - 1, -1, -1)])
                                         for n in range(begin, begin + 500)])
        check(status == 204, f"push: {status} {words}")
    return now / 1000


def ask(ours, path, **params):
    status, headers, body = http(f"{ours.query}/api/v1/{path}?{urlencode(params)}")
    return status, headers, json.loads(body) if status != 200 else body


def refused(got, status, kind, words):
    check(got[0] == status and got[2]["status"] == "error" and got[2]["errorType"] == kind and words in got[2]["error"],
          f"wanted {status} {kind} with \"{words}\": {got[0]} {got[2]}")


def test_each_bound_of_a_query_is_an_error_with_words_and_the_next_query_is_answered(world):
    ours = koa.Serve(world, "--querier.memory_max", "4MiB", "--querier.samples_max", "200000", "--querier.timeout", "2s")
    end = load(ours, 2000, 60)
    well = lambda: check(koa.one(ours.query, "count(wide)") == 2000, "a query within its bounds")
    cases = [
        ("memory of what is selected", "query", dict(query="wide[15m]", time=end), "needs more memory than"),
        ("memory of what is evaluated", "query_range", dict(query="sum(wide) by (n) + 1", start=end - 10000, end=end, step=1), "memory"),
        ("memory of label sets", "query", dict(query='label_replace(wide, "y", "$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1$1", "text", "(.*)")', time=end), "memory"),
        ("samples", "query", dict(query="sum_over_time(vector(1)[400000s:1s])", time=end), "too many samples"),
    ]
    for name, path, params, words in cases:
        got = ask(ours, path, **params)
        check(got[0] == 422 and got[2]["errorType"] == "execution" and words in got[2]["error"], f"{name}: {got[0]} {str(got[2])[:400]}")
        well()
    refused(ask(ours, "query", query="wide", timeout="0.000001"), 503, "timeout", "timed out")
    well()
    for path in ("series", "labels", "export", "search/metric_names", "status/tsdb", "user_stats"):
        got = ask(ours, path, **{"match[]": "wide", "timeout": "1ms"})
        check(got[0] in (200, 422, 503), f"{path}: {got[0]} {str(got[2])[:300]}")
        if got[0] != 200:
            check(got[2]["errorType"] in ("timeout", "execution"), f"{path}: {got[2]}")
        well()


SLOW = "sum(max_over_time(sum by (n) (wide * 2)[90d:1s]))"


def test_past_the_queue_a_query_is_refused_at_once_and_may_come_again(world):
    ours = koa.Serve(world, "--querier.concurrent_max", "1", "--querier.timeout", "3s", "--querier.memory_max", "64GiB",
                     "--querier.samples_max", "1000000000000")
    end = load(ours, 500)
    answers = []
    many = [threading.Thread(target=lambda: answers.append(ask(ours, "query", query=SLOW, time=end))) for _ in range(4)]
    for t in many:
        t.start()
    for t in many:
        t.join(60)
    check(all(a[0] in (422, 503) and a[2]["errorType"] in ("timeout", "execution") for a in answers) and len(answers) == 4,
          f"{[(a[0], str(a[2])[:200]) for a in answers]}")
    check(koa.one(ours.query, "count(wide)") == 500, "afterwards")


def test_a_query_ends_when_its_client_has_left(world):
    ours = koa.Serve(world, "--querier.memory_max", "64GiB", "--querier.samples_max", "1000000000000")
    end = load(ours, 500)
    before = metric(ours.query, "koalemos_querier_canceled_total")
    for _ in range(3):
        s = socket.create_connection(("127.0.0.1", ours.port))
        s.sendall(f"GET /api/v1/query?{urlencode(dict(query=SLOW, time=end))} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(0.3)
        s.close()
    # A fast machine may have answered one before its client left.
    eventually("they are canceled", lambda: metric(ours.query, "koalemos_querier_canceled_total") > before, 20)
    eventually("nothing runs any more", lambda: metric(ours.query, "koalemos_querier_requests_active") == 0, 20)
    cpu = ours.process.cpu_seconds()
    time.sleep(1)
    check(ours.process.cpu_seconds() - cpu < 0.5, "somebody works on for who has left")
