"""The configuration as an operator meets it: what is wrong is pointed at."""
import json
import os
import re
import signal
import subprocess
import time

import koa
from koa import check


def tool(*args):
    """(exit status, stdout, stderr)"""
    p = subprocess.run([os.path.join(koa.BIN, "koalemos"), *args], capture_output=True, text=True, timeout=60)
    return p.returncode, p.stdout, p.stderr


def written(world, name, text):
    with open(world.path(name), "w") as f:
        f.write(text)
    return world.path(name)


WRONG = [
    ("log:\n  levle: info\n", 2, 3, 'did you mean "log.level"?'),
    ("log:\n  level: loud\n", 2, 10, "debug|info|warn|error"),
    ("limits: {past: 300y}\n", 1, 16, "from 0 to 200y"),
    ("a: [\n", 2, 1, ""),
    ("partitions: 16\nplacement:\n  static: ingestor-0=0-16\n", 3, 11, "placement.static"),
    ("store:\n  url: ftp://x\n", 2, 8, "store.url"),
    ("write_relabel:\n- {action: explode}\n", 2, 1, "explode"),
    ("tenants:\n  a:\n    retention_rules:\n    - {match: up, keep: 7d, keep_5m: 90d}\n", 4, 5, "set rollup.5m of tenant a"),
    ("tenants:\n  a:\n    listen: x\n", 3, 13, "cannot be said of one tenant"),
]


def test_check_config_points_at_line_and_column(world):
    good = written(world, "good.yaml", "log: {level: debug}\ntenants: {a: {limits: {past: 1h}}}\n")
    status, out, err = tool("check-config", good)
    check((status, out) == (0, f"{good}: good\n"), f"a good file: {status} {out} {err}")
    for text, line, column, words in WRONG:
        bad = written(world, "bad.yaml", text)
        status, out, err = tool("check-config", good, bad)
        check(status == 1 and f"{bad}, line {line}, column {column}" in err and words in err and "good" in out,
              f"{text!r}: {status} {out!r} {err!r}")
    many = written(world, "many.yaml", "log: {levle: x, format: y}\n" + "".join(f"n{i}: 1\n" for i in range(30)))
    status, _, err = tool("check-config", many)
    check(status == 1 and len(err.splitlines()) == 21 and "and 12 more" in err and "line 1, column 7" in err and
          "line 1, column 25" in err, f"all that is wrong: {err}")
    status, _, err = tool("check-config", world.path("none.yaml"))
    check(status == 1 and "No such file" in err, f"a file that is not there: {status} {err}")


def test_the_files_that_are_shipped_are_configurations(world):
    top = os.path.join(os.path.dirname(__file__), "..", "..", "deploy")
    files = [os.path.join(top, f) for f in ("cluster.yaml", "compose/koalemos.yaml", "deb/koalemos.yaml")]
    status, out, err = tool("check-config", *files)
    check(status == 0 and out.count(": good") == len(files), f"{out} {err}")


def test_the_schema_has_every_option(world):
    status, out, err = tool("config", "schema")
    check(status == 0, err)
    schema = json.loads(out)

    def paths(node, prefix=""):
        for name, below in node["properties"].items():
            if prefix == "" and name == "tenants":
                continue
            if below.get("type") == "object":
                check(below["additionalProperties"] is False, f"{prefix}{name} takes any key")
                yield from paths(below, f"{prefix}{name}.")
            else:
                check(below["description"], name)
                yield prefix + name

    _, told, _ = tool("serve", "--help")
    flags = re.findall(r"^  --([a-z0-9._-]+)$", told, re.MULTILINE)
    flags = [f for f in flags if f not in ("help", "version")]
    check(len(flags) > 100 and sorted(paths(schema)) == sorted(flags), "schema and --help differ")
    tenant = schema["properties"]["tenants"]["additionalProperties"]["properties"]
    check("limits" in tenant and "listen" not in tenant, f"of a tenant: {sorted(tenant)}")


# ---- reload ----

def pushed(base, tenant, name, labels=1):
    now = int(time.time() * 1000)
    series = [({"__name__": name, **{f"l{i}": "x" for i in range(labels)}}, [(now, 1.0)])]
    return koa.push(base, series, tenant=tenant)


def reload(base):
    status, _, words = koa.http(f"{base}/-/reload", b"", method="POST")
    return status, words.decode()


def shown(base):
    return koa.http(f"{base}/config")[2].decode()


def metric(base, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", koa.http(f"{base}/metrics")[2].decode(), re.M)
    return float(found.group(1)) if found else None


def test_a_reload_is_in_force_at_once_and_one_that_is_wrong_changes_nothing(world):
    head = "http: {lifecycle: true}\n"
    path = written(world, "koa.yaml", head)
    ours = koa.Serve(world, "--config", path)
    check(pushed(ours.push, "a", "m", 9)[0] == 204, "before")

    written(world, "koa.yaml", head + "tenants: {a: {limits: {label_count_max: 5}}}\nquerier: {timeout: 3s}\n")
    status, words = reload(ours.push)
    check(status == 200 and words == "taken: querier.timeout, tenants\n", f"{status} {words}")
    status, words = pushed(ours.push, "a", "m", 9)
    check(status == 400 and "limits.label_count_max" in words, f"the very series of before: {status} {words}")
    check(pushed(ours.push, "b", "m", 9)[0] == 204, "of another tenant")
    limits = json.loads(koa.http(f"{ours.query}/api/v1/user_limits", headers={"X-Scope-OrgID": "a"})[2])
    check(limits["limits.label_count_max"] == "5", f"{limits}")
    check('timeout: "3s"' in shown(ours.query), "what is in force is not shown")
    for page in (shown(ours.query), koa.http(f"{ours.query}/api/v1/status/config")[2].decode().replace('\\"', '"')):
        check('label_count_max: "64"' in page and 'label_count_max: "5"' not in page, f"one tenant's is shown to all: {page}")

    for text, wanted, told in ((head + "querier: {timeout: 4s}\nlimits: {pats: 1h}\n", 500, 'did you mean "limits.past"?'),
                               (head + "querier: {timeout: 4s}\npartitions: 32\n", 409, "takes a restart: partitions"),
                               ("http: [\n", 500, "line 2, column 1")):
        written(world, "koa.yaml", text)
        status, words = reload(ours.push)
        check(status == wanted and told in words, f"{text!r}: {status} {words}")
        page = shown(ours.query)
        check('timeout: "3s"' in page and told in page, f"{text!r}: {page[:500]}")
        check(metric(ours.query, "koalemos_config_last_reload_successful") == 0, "not counted")
        info = koa.api(ours.query, "status/runtimeinfo")
        check(info["reloadConfigSuccess"] is False and info["lastConfigTime"] > info["startTime"], f"{info}")
        check(pushed(ours.push, "a", "m", 9)[0] == 400 and pushed(ours.push, "b", "m", 9)[0] == 204, "something changed")

    written(world, "koa.yaml", head + "log: {format: json}\n")
    ours.process.child.send_signal(signal.SIGHUP)
    koa.eventually("SIGHUP is heard", lambda: pushed(ours.push, "a", "m", 9)[0] == 204)
    check(metric(ours.query, "koalemos_config_last_reload_successful") == 1, "not counted")
    check(koa.api(ours.query, "status/runtimeinfo")["reloadConfigSuccess"] is True, "not told")
    check("was refused" not in shown(ours.query), "still refused?")
    koa.eventually("it is told", lambda: "configuration reloaded, taken: log.format, querier.timeout, tenants" in ours.process.words())
    check(ours.process.stop() == 0, "it does not end well")


def test_every_service_of_a_cluster_reloads(world):
    ours = koa.Cluster(world)
    with open(world.path("cluster.yaml")) as f:
        text = f.read()
    written(world, "cluster.yaml", text + "limits: {body_bytes_max: 4KiB}\nretention: 30d\nquerier: {samples_max: 2000}\n")
    for p in (ours.doorman, *ours.ingestors, ours.querier):
        p.child.send_signal(signal.SIGHUP)
        koa.eventually(f"{p.name} reloads", lambda: "taken: limits.body_bytes_max, retention, querier.samples_max" in p.words())
    big = "".join(f"m{{n=\"{i}\"}} 1\n" for i in range(1000)).encode()
    url = f"{ours.push}/api/v1/import/prometheus"
    check(koa.http(url, big)[0] == 413, "a body past the new bound")
    written(world, "cluster.yaml", text + "limits: {body_bytes_max: 1MiB}\n")
    ours.doorman.child.send_signal(signal.SIGHUP)
    koa.eventually("a larger bound is open", lambda: koa.http(url, big)[0] == 204)
    written(world, "cluster.yaml", text + "cell: other\n")
    ours.querier.child.send_signal(signal.SIGHUP)
    koa.eventually("refused", lambda: "not reloaded" in ours.querier.words() and "cell" in ours.querier.words())
    check(ours.querier.alive(), "the querier ended")


# ---- overrides ----

def overrides(base, *args):
    """(exit status, its JSON or words)"""
    status, out, err = tool("overrides", *args, "--url", base)
    return status, json.loads(out)["data"] if status == 0 else err


def test_overrides_are_in_force_at_once_with_history_and_rollback(world):
    ours = koa.Serve(world)
    check(pushed(ours.push, "a", "m", 9)[0] == 204, "before")
    status, got = overrides(ours.push, "set", "a", "limits.label_count_max=5", "--note", "too many labels", "--by", "eve")
    check(status == 0 and got["version"] == 1 and got["effective"]["limits.label_count_max"] == "5", f"{status} {got}")
    check(pushed(ours.push, "a", "m", 9)[0] == 400 and pushed(ours.push, "b", "m", 9)[0] == 204, "not in force, or for all")
    status, got = overrides(ours.push, "set", "a", "limits.past=2h", "retention=30d", "--unset", "limits.label_count_max")
    check(got["overrides"] == {"limits.past": "2h", "retention": "30d"}, f"{got}")
    check(pushed(ours.push, "a", "m", 9)[0] == 204, "not taken back")
    status, words = overrides(ours.push, "set", "a", "limits.psat=2h")
    check(status == 1 and 'did you mean \\"limits.past\\"?' in words, f"{status} {words}")
    status, words = overrides(ours.push, "set", "a", "retention_rules=[{match: up, keep: 7d, keep_5m: 90d}]")
    check(status == 1 and "set rollup.5m of tenant a" in words, f"{status} {words}")
    status, words = overrides(ours.push, "set", "a", "limits.past=3h", "--expect", "1")
    check(status == 1 and "version 2, and not 1" in words, f"{status} {words}")
    status, got = overrides(ours.push, "rollback", "a", "1")
    check(status == 0 and got["version"] == 3 and got["overrides"] == {"limits.label_count_max": "5"}, f"{got}")
    with open(world.path("rules.yaml"), "w") as f:
        f.write("write_relabel:\n- {target_label: site, replacement: x}\n")
    status, got = overrides(ours.push, "set", "b", "--file", world.path("rules.yaml"))
    check(status == 0, f"{got}")
    check(pushed(ours.push, "b", "ruled")[0] == 204, "push")
    series = koa.api(ours.query, "series", tenant="b", match="ruled")
    check(series == [{"__name__": "ruled", "l0": "x", "site": "x"}], f"{series}")

    ours.process.kill()                                # the KV is a file
    ours.process.start()
    ours.ready()
    status, got = overrides(ours.push, "history", "a")
    check([v["version"] for v in got["versions"]] == [3, 2, 1] and got["versions"][2]["note"] == "too many labels" and
          got["versions"][2]["by"] == "eve" and got["versions"][0]["rollbackTo"] == 1, f"{got}")
    check(pushed(ours.push, "a", "m", 9)[0] == 400, "not in force after a restart")
    status, got = overrides(ours.push, "get")
    check([(o["tenant"], o["version"]) for o in sorted(got, key=lambda o: o["tenant"])] == [("a", 3), ("b", 1)], f"{got}")
    check(overrides(ours.push, "forget", "a")[0] == 0 and overrides(ours.push, "forget", "a")[0] == 1, "forget")
    check(pushed(ours.push, "a", "m", 9)[0] == 204, "not forgotten")

    url = f"{ours.push}/api/v1/koalemos/overrides"
    for path, body, wanted in (("?tenant=..", b"{}", 400), ("", b"{}", 400), ("?tenant=a&expect=x", b"{}", 400),
                               ("?tenant=a&unset=limits.past", b"{}", 400), ("?tenant=a&by=%0a", b"{}", 400), ("?tenant=a&merge=1", b"{}", 400),
                               ("?tenant=a", b"listen: x", 400), ("?tenant=a", b"x" * 40000, 413),
                               ("?tenant=a", b"write_relabel:\n" + b"- {target_label: a, replacement: bbbbbbbbbbbbbbb}\n" * 500, 422),
                               ("/rollback?tenant=a&to=9", b"", 404), ("/rollback?tenant=a", b"", 400), ("/history", None, 400)):
        status, _, words = koa.http(url + path, body)
        check(status == wanted, f"{path} {body!r:.40}: {status} {words[:200]!r}")


def test_overrides_reach_every_service_of_a_cluster_and_outlive_its_restart(world):
    ours = koa.Cluster(world)
    status, got = overrides(ours.push, "set", "a", "limits.label_count_max=5", "retention=7d")
    check(status == 0, f"{got}")
    second = ours.second_doorman()
    check(pushed(ours.url(second.name), "a", "m", 9)[0] == 400, "a doorman that started later")
    limits = lambda: json.loads(koa.http(f"{ours.query}/api/v1/user_limits", headers={"X-Scope-OrgID": "a"})[2])
    koa.eventually("the querier knows", lambda: limits()["retention"] == "7d")
    status, got = overrides(ours.url(second.name), "set", "a", "limits.label_count_max=20")
    check(status == 0, f"{got}")
    koa.eventually("the first doorman knows", lambda: pushed(ours.push, "a", "m", 9)[0] == 204)
    revision = lambda name: metric(ours.url(name), "koalemos_overrides_revision")
    koa.eventually("all are equal", lambda: len({revision(n) for n in ours.ports}) == 1 and revision("querier") > 0)


def test_a_feature_is_off_for_the_tenants_it_is_not_rolled_out_to(world):
    ours = koa.Serve(world, "--querier.results_cache_least", "0")
    end = int(time.time()) - 3600

    def passed_by(tenant):
        url = f"{ours.query}/api/v1/query_explain?query=sum(up)&start={end - 7200}&end={end}&step=60"
        return json.loads(koa.http(url, headers={"X-Scope-OrgID": tenant})[2])["data"]["resultsCache"].get("passedBy")
    check(passed_by("a") == "", f"where nothing is said: {passed_by('a')}")
    check(overrides(ours.push, "set", "a", "features.results_cache=0")[0] == 0, "set")
    check(passed_by("a") == "the cache is off for this tenant", f"{passed_by('a')}")
    check(passed_by("b") == "", f"another tenant: {passed_by('b')}")


def test_a_cache_that_is_made_small_by_a_reload_gives_its_memory_back(world):
    path = written(world, "koa.yaml", "http: {lifecycle: true}\n")
    ours = koa.Serve(world, "--config", path, "--querier.results_cache_least", "0")
    end = int(time.time()) - 1800
    status, words = koa.push(ours.push, [({"__name__": "m", "n": str(n)}, [((end - 6000 + 60 * k) * 1000, float(k)) for k in range(100)])
                                         for n in range(20)])
    check(status == 204, f"{status} {words}")
    kept = lambda: metric(ours.query, "koalemos_querier_results_cache_bytes")
    ask = f"{ours.query}/api/v1/query_range?query=sum+by(n)(m)&start={end - 7200 * 3}&end={end}&step=60"
    before = koa.http(ask)[2]
    check(kept() > 1000, f"kept: {kept()}")
    written(world, "koa.yaml", "http: {lifecycle: true}\nquerier: {results_cache_max: 0}\n")
    check(reload(ours.push) == (200, "taken: querier.results_cache_max\n"), "reload")
    koa.eventually("nothing is kept", lambda: (koa.http(ask)[2] == before or check(False, "another answer")) and kept() == 0)
