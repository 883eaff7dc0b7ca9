"""What the file says of single tenants: limits, pairs of senders, relabelling, as seen from outside."""
import time

import koa
from koa import RW1, api, check, eventually, http, metric, rw1_series, snappy

CONFIG = """
limits: {series_max: 1000}
write_relabel:
- {source_labels: [__name__], regex: go_.*, action: drop}
tenants:
  slow: {limits: {samples_per_s: 10, burst_samples: 20}}
  small: {limits: {body_bytes_max: 2KiB, inflated_bytes_max: 8KiB, series_max: 3}}
  pairs: {ha: {enabled: true}}
  apps:
    write_relabel:
    - {source_labels: [pod], regex: "(.*)-[0-9a-f]+", target_label: app}
    - {regex: pod, action: labeldrop}
"""


def serve(world):
    with open(world.path("tenants.yml"), "w") as f:
        f.write(CONFIG)
    return koa.Serve(world, "--config", world.path("tenants.yml"))


def push(ours, tenant, *series, url=None):
    now = int(time.time() * 1000)
    body = snappy(b"".join(rw1_series(labels, [(now, 1.0)]) for labels in series))
    status, headers, words = http(f"{url or ours.push}/api/v1/write", body, {**RW1, "X-Scope-OrgID": tenant})
    return status, headers, words.decode()


def stored(ours, tenant):
    return sorted(str(sorted((k, v) for k, v in m.items())) for m in api(ours.query, "series", tenant=tenant, match='{__name__=~".+"}'))


def test_a_tenant_past_its_rate_gets_429_and_when_to_come_again_and_nobody_else_does(world):
    ours = serve(world)
    many = [{"__name__": "m", "n": str(n)} for n in range(60)]
    check(push(ours, "slow", *many)[0] == 204, "the burst, and more")
    status, headers, words = push(ours, "slow", *many)
    check(status == 429 and "limits.samples_per_s" in words, f"{status} {words}")
    wait = int({k.lower(): v for k, v in headers.items()}["retry-after"])
    check(1 <= wait <= 5, f"Retry-After: {wait}")
    check(push(ours, "other", *many)[0] == 204, "another tenant meanwhile")
    check(metric(ours.push, "koalemos_doorman_pushes_limited_total") >= 1, "not counted")
    eventually("the rate lets in again", lambda: push(ours, "slow", many[0])[0] == 204, 20, 0.5)


def test_a_tenants_bounds_on_bodies_and_series_are_its_own(world):
    ours = serve(world)
    check(push(ours, "small", {"__name__": "a"}, {"__name__": "b"}, {"__name__": "c"})[0] == 204, "three series")
    status, _, words = push(ours, "small", {"__name__": "a"}, {"__name__": "d"})
    check(status == 400 and "1 refused, 1 stored" in words and "limits.series_max, the first: d{}" in words, f"{status} {words}")
    wide = [{"__name__": "wide", "n": str(n), "v": "x" * 200} for n in range(100)]
    check(push(ours, "small", *wide)[0] == 413, "unpacked too large")
    noise = [{"__name__": "n", "v": "".join(chr(33 + (i * 7919 + n * 104729) % 90) for i in range(400))} for n in range(20)]
    check(push(ours, "small", *noise)[0] == 413, "too large as sent")
    check(push(ours, "other", *wide)[0] == 204, "another tenant")
    in_force = lambda tenant: http(f"{ours.query}/api/v1/user_limits", headers={"X-Scope-OrgID": tenant})[2]
    check(b"2KiB" in in_force("small") and b"2KiB" not in in_force("other"), f"{in_force('small')}")


def test_of_a_pair_of_senders_one_is_stored_and_the_other_is_answered_202(world):
    ours = serve(world)
    sender = lambda r, **more: {"__name__": "up", "cluster": "c1", "__replica__": r, **more}
    check(push(ours, "pairs", sender("a"))[0] == 204, "the first leads")
    for _ in range(3):
        check(push(ours, "pairs", sender("b"), sender("b", x="1"))[0] == 202, "the other is passed over")
        check(push(ours, "pairs", sender("a"))[0] == 204, "the leader goes on")
    check(stored(ours, "pairs") == ["[('__name__', 'up'), ('cluster', 'c1')]"], f"{stored(ours, 'pairs')}")
    check(metric(ours.push, "koalemos_doorman_deduplicated_total") == 6, "not counted")
    ours.process.kill()                                # who leads survives
    ours.process.start()
    ours.ready()
    check(push(ours, "pairs", sender("b"))[0] == 202, "after a restart")
    check(push(ours, "pairs", sender("a"))[0] == 204, "after a restart, the leader")


def test_a_tenants_rules_change_and_drop_series_before_they_are_stored(world):
    ours = serve(world)
    web = lambda pod: {"__name__": "requests", "pod": pod, "zone": "z"}
    check(push(ours, "apps", web("web-1f"), web("api-2a"), {"__name__": "go_gc"})[0] == 204, "push")
    check(stored(ours, "apps") == ["[('__name__', 'go_gc')]", "[('__name__', 'requests'), ('app', 'api'), ('zone', 'z')]",
                                   "[('__name__', 'requests'), ('app', 'web'), ('zone', 'z')]"], f"{stored(ours, 'apps')}")
    for _ in range(2):
        check(push(ours, "any", {"__name__": "go_gc"}, {"__name__": "kept", "pod": "web-1f"})[0] == 204, "dropped is no refusal")
    check(stored(ours, "any") == ["[('__name__', 'kept'), ('pod', 'web-1f')]"], f"{stored(ours, 'any')}")
    check(metric(ours.push, "koalemos_doorman_dropped_total") == 2, "not counted")


def test_two_doormen_agree_on_pairs_and_share_bounds_until_one_is_killed(world):
    ours = koa.Cluster(world, "--ha.enabled=true", "--ha.failover=3s", "--limits.series_max=50", "--doorman.heartbeat=500ms")
    second = ours.second_doorman()
    one, two = ours.url("doorman"), ours.url("doorman-1")
    for url in (one, two):
        eventually("they know of each other", lambda: metric(url, "koalemos_doorman_doormen") == 2, 20)
    sender = lambda r: {"__name__": "up", "cluster": "c1", "__replica__": r}
    check(push(ours, "t", sender("a"), url=one)[0] == 204, "the first leads")
    for _ in range(6):                                 # longer than a failover
        check(push(ours, "t", sender("b"), url=two)[0] == 202, "the other, through the other doorman")
        check(push(ours, "t", sender("a"), url=one)[0] == 204, "the leader goes on")
        time.sleep(1)
    check(push(ours, "t", sender("a"), url=two)[0] == 204, "the leader, through the other doorman")
    begun = time.monotonic()
    eventually("the other takes over", lambda: push(ours, "t", sender("b"), url=two)[0] == 204, 30)
    check(time.monotonic() - begun >= 3, f"after {time.monotonic() - begun:.1f} s already")
    check(push(ours, "t", sender("a"), url=one)[0] == 202, "and the first is passed over")

    many = lambda prefix, n: [{"__name__": "m", "n": f"{prefix}{i}"} for i in range(n)]
    check(push(ours, "s", *many("x", 40), url=one)[0] == 204, "40 series of 50")

    def known():                                       # the other has heard of them: no more than ten pass
        status, _, words = push(ours, "s", *many(f"y{time.monotonic()}", 1), url=two)
        return status == 400 and "limits.series_max" in words
    eventually("series active at one doorman count at the other", known, 20, 0.6)
    check(push(ours, "s", *many("x", 40), url=one)[0] == 204, "those known go on")
    second.kill()
    eventually("one is left", lambda: metric(one, "koalemos_doorman_doormen") == 1, 20)
