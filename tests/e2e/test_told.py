"""What our servers tell of what they do: ids, slow queries, as whoever operates them sees them."""
import json
import time
import urllib.parse

import koa
from koa import check, eventually, metric


def lines(process, message):
    """The log's lines of that message, as objects."""
    found = []
    for line in process.words().splitlines():
        if line.startswith("{"):
            line = json.loads(line)
            if line["message"] == message:
                found.append(line)
    return found


def fill(ours, series=50, samples=100):
    now = int(time.time() * 1000)
    status, words = koa.push(ours.push, [({"__name__": "told", "n": str(n)},
                                          [(now - (samples - k) * 1000, k) for k in range(samples)])
                                         for n in range(series)])
    check(status == 204, f"{status} {words}")
    return now / 1000


def test_a_slow_query_is_told_with_its_text_and_its_cost_and_counted(world):
    ours = koa.Serve(world, "--querier.slow_query=1ms", "--log.format=json")
    now = fill(ours)
    query = 'sum by (n) (rate(told[1m])) + on (n) told{n="\u00e4"}' + " " * 1100 + "or told"
    text = urllib.parse.urlencode({"query": query, "start": now - 3000, "end": now, "step": 1})
    before = metric(ours.query, "koalemos_querier_slow_queries_total")
    status, headers, _ = koa.http(f"{ours.query}/api/v1/query_range?{text}",
                                  headers={"X-Request-Id": "find-me", "X-Scope-OrgID": "anonymous"})
    check(status == 200 and headers["X-Request-Id"] == "find-me", f"{status} {headers['X-Request-Id']}")
    found = [line for line in lines(ours.process, "slow query") if line["request_id"] == "find-me"]
    check(len(found) == 1, f"{len(found)} lines of it")
    line = found[0]
    check(line["query"] == query[:1023] and line["query_bytes"] == len(query.encode()), f"the text: {line}")
    check(line["tenant"] == "anonymous" and line["path"] == "/api/v1/query_range" and line["level"] == "warn", line)
    check(line["duration_ms"] >= 1 and line["range_s"] == 3000 and line["step_s"] == 1, line)
    check(line["samples"] >= 5000 and line["series"] >= 50 and line["partitions"] >= 1 and line["pages"] >= 1, line)
    check(metric(ours.query, "koalemos_querier_slow_queries_total") > before, "not counted")


def test_a_query_that_fails_slowly_is_told_with_its_error(world):
    ours = koa.Serve(world, "--querier.slow_query=10ms", "--log.format=json")
    fill(ours)
    text = urllib.parse.urlencode({"query": "sum(sum_over_time(told[1h:1ms]))", "timeout": "20ms"})
    status, _, body = koa.http(f"{ours.query}/api/v1/query?{text}", headers={"X-Request-Id": "late"})
    check(status == 503, f"{status} {body[:200]!r}")
    found = [line for line in lines(ours.process, "slow query") if line["request_id"] == "late"]
    check(len(found) == 1 and "timed out" in found[0]["error"], f"{found}")


def test_a_quick_query_is_not_told(world):
    ours = koa.Serve(world, "--querier.slow_query=0", "--log.format=json")
    fill(ours)
    koa.api(ours.query, "query", query="told")
    check(not lines(ours.process, "slow query"), "a line where none is wanted")


def test_a_failure_is_found_again_in_the_log_by_the_id_of_its_answer(world):
    ours = koa.Cluster(world, "--log.format=json", "--doorman.append_timeout=500ms", "--bus.timeout=500ms")
    fill(ours)
    ours.nats.kill()

    def refused():
        status, headers, body = koa.http(f"{ours.push}/api/v1/import/prometheus", b'told_x{from="me"} 1\n')
        return status == 503 and (headers["X-Request-Id"], body)
    ident, body = eventually("a push is refused without NATS", refused)
    found = [line for line in lines(ours.doorman, "answered 503") if line["request_id"] == ident]
    check(len(found) == 1 and found[0]["path"] == "/api/v1/import/prometheus" and
          found[0]["answer"] in body.decode(), f"{found}")
    ours.nats.start()
    ours.ready()


def test_every_line_of_every_service_is_json_where_that_is_wanted(world):
    ours = koa.Cluster(world, "--log.format=json", "--log.level=debug", "--log.requests=all")
    fill(ours)
    koa.api(ours.query, "query", query="told")
    ours.flush_all()
    koa.http(f"{ours.push}/no\"such\\path")
    for p in reversed(ours.processes[1:]):
        check(p.stop() == 0, f"{p.name} does not end well")
        count = 0
        for line in p.words().splitlines():
            try:
                line = json.loads(line)
            except ValueError:
                raise koa.Failed(f"{p.name}: not JSON: {line[:300]}")
            missing = {"time", "level", "service", "message"} - line.keys()
            check(not missing and line["level"] in ("debug", "info", "warn", "error"), f"{p.name}: {line}")
            count += 1
        check(count > 3, f"{p.name} said {count} lines")
