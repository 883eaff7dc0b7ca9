"""Deletion: what was written before is gone from every answer when the request is answered, and stays so."""
import json
import os
import shutil
import subprocess
import time
import urllib.parse

import koa
from koa import api, check, eventually, http

STEP = 15_000
HOURS = 6


def begin_ms():
    return (int(time.time()) // 7200 * 7200 - HOURS * 3600) * 1000


def load(base, begin, end, tenant=None):
    for at in range(begin, end, 600_000):
        batch = []
        for m in range(4):
            for s in range(6):
                labels = {"__name__": f"gone_{m}", "job": f"j{s % 2}", "series": str(s), "only": f"o{m}{s}"}
                batch.append((labels, [(t, t // STEP * (m + 1) + s) for t in range(at, min(at + 600_000, end), STEP)]))
        status, words = koa.push(base, batch, tenant)
        check(status == 204, f"push: {status} {words}")


def everything(base, begin, end, tenant=None):
    """{labels: {ms: value}}, of all series, as they are stored."""
    got = {}
    for m in range(4):
        data = api(base, "query", query=f"gone_{m}[{(end - begin) // 1000 + 60}s]", time=f"{end / 1000:.3f}", tenant=tenant)
        for s in data["result"]:
            got[tuple(sorted(s["metric"].items()))] = {round(t * 1000): float(v) for t, v in s["values"]}
    return got


def delete(base, match, start=None, end=None, tenant=None, wait=True):
    pairs = [("match[]", m) for m in match]
    pairs += [("start", f"{start / 1000:.3f}")] if start is not None else []
    pairs += [("end", f"{end / 1000:.3f}")] if end is not None else []
    status, _, body = http(f"{base}/api/v1/admin/tsdb/delete_series?{urllib.parse.urlencode(pairs)}", b"",
                           {"X-Scope-OrgID": tenant} if tenant else {}, method="POST")
    check(status == 204 or not wait, f"delete {match}: {status} {body[:500]!r}")
    return status


def without(before, meant, start=-2**62, end=2**62):
    """The same as it should be afterwards."""
    left = {}
    for labels, samples in before.items():
        if meant(dict(labels)):
            samples = {t: v for t, v in samples.items() if not start <= t <= end}
        if samples:
            left[labels] = samples
    return left


def same(got, want, when):
    check(got.keys() == want.keys(), f"{when}: too many {sorted(got.keys() - want.keys())[:3]}, too few "
          f"{sorted(want.keys() - got.keys())[:3]}")
    for k in want:
        check(got[k] == want[k], f"{when}: {dict(k)}: {len(got[k])} samples, not {len(want[k])}; more: "
              f"{sorted(got[k].keys() - want[k].keys())[:3]}, less: {sorted(want[k].keys() - got[k].keys())[:3]}")


def names_agree(base, want, begin, end, when, tenant=None):
    """Series, labels and values tell of what has samples, and of nothing else."""
    span = {"start": f"{begin / 1000:.3f}", "end": f"{end / 1000:.3f}", "tenant": tenant}
    series = {tuple(sorted(s.items())) for s in api(base, "series", match="{__name__=~'gone_.*'}", **span)}
    check(series == set(want), f"{when}: series: {len(series)}, not {len(want)}")
    for label in ("__name__", "only"):
        values = api(base, f"label/{label}/values", match="{__name__=~'gone_.*'}", **span)
        expected = sorted({dict(k)[label] for k in want})
        check(values == expected, f"{when}: values of {label}: {values}, not {expected}")


def store_has(folder, text):
    """Is that text in any object? Labels lie as they are in small filesets, or packed."""
    p = subprocess.run([os.path.join(koa.BIN, "koalemos"), "inspect", folder, "--json"], capture_output=True, text=True,
                       timeout=120)
    check(p.returncode == 0, f"inspect: {p.returncode} {p.stderr}")
    return sum(f["samples"] for f in json.loads(p.stdout)["filesets"])


def test_deleted_samples_are_gone_everywhere_and_stay_gone(world):
    flags = ("--ingestor.window", "2h", "--compaction.deletions", "24h", "--compaction.bytes_max", "0")
    ours = koa.Serve(world, *flags)
    begin = begin_ms()
    end = begin + HOURS * 3600_000
    load(ours.push, begin, begin + 4 * 3600_000)
    ours.flush_all()
    load(ours.push, begin + 4 * 3600_000, end)         # stays in memory
    before = everything(ours.query, begin, end)
    check(len(before) == 24, f"{len(before)} series")

    # A whole metric; a part of some series of another, over filesets and memory; and what there is not.
    delete(ours.query, ["gone_0", "nothing_such{job='j1'}"])
    middle = (begin + 3600_000 + 7000, begin + 5 * 3600_000 + 7000)
    delete(ours.query, ["gone_1{job=~'j[1]'}", "{only=~'o2[05]',__name__!='gone_1'}"], *middle)
    want = without(before, lambda l: l["__name__"] == "gone_0")
    want = without(want, lambda l: (l["__name__"], l["job"]) == ("gone_1", "j1") or l["only"] in ("o20", "o25"), *middle)
    same(everything(ours.query, begin, end), want, "at once")
    names_agree(ours.query, want, begin, end, "at once")
    values = api(ours.query, "label/only/values", match="gone_1", start=middle[0] / 1000 + 60, end=middle[1] / 1000 - 60)
    check(values == ["o10", "o12", "o14"], f"values in the deleted span: {values}")

    # What is written afterwards is seen.
    again = ({"__name__": "gone_0", "job": "j0", "series": "0", "only": "o00"}, [(begin + STEP, 5.0), (end - 1000, 6.0)])
    check(koa.push(ours.push, [again])[0] == 204, "push")
    want[tuple(sorted(again[0].items()))] = dict(again[1])
    same(everything(ours.query, begin, end), want, "written again")

    ours.process.kill()
    ours.process.start()
    ours.ready()
    same(everything(ours.query, begin, end), want, "after kill -9")
    ours.flush_all()
    same(everything(ours.query, begin, end), want, "flushed")
    names_agree(ours.query, want, begin, end, "flushed")

    # The catalogue made anew from the store alone knows of the deletions.
    ours.process.stop()
    for folder in ("kv", "log", "snapshots"):          # all that is left is the store
        shutil.rmtree(world.path("data", folder))
    p = subprocess.run([os.path.join(koa.BIN, "koalemos"), "catalog", "rebuild", "--data-dir", world.path("data"), *flags],
                       capture_output=True, text=True, timeout=120)
    check(p.returncode == 0, f"rebuild: {p.returncode} {p.stdout} {p.stderr}")
    ours.process.start()
    ours.ready()
    same(everything(ours.query, begin, end), want, "the catalogue made anew")

    # Rewriting, on request: the store has nothing of it any more.
    told = api(ours.query, "admin/tsdb/deletions")
    check(told["pending"] > 0 and not told["done"], f"{told}")
    check(any("gone_1" in d["match"] and d["start"] == middle[0] and d["end"] == middle[1] for d in told["deletions"]),
          f"{told}")
    samples = store_has(world.path("data"), "")
    status, _, body = http(f"{ours.query}/api/v1/admin/tsdb/clean_tombstones", b"", method="POST")
    check(status == 204, f"clean: {status} {body[:300]!r}")
    told = api(ours.query, "admin/tsdb/deletions")
    check(told["pending"] == 0, f"{told}")
    same(everything(ours.query, begin, end), want, "rewritten")
    names_agree(ours.query, want, begin, end, "rewritten")
    check(samples > sum(len(s) for s in want.values()), f"{samples} samples before")


def test_two_queriers_and_two_tenants(world):
    cluster = koa.Cluster(world)
    second = cluster.service("querier", "querier-1", "--store.dir", world.path("store"))
    cluster.processes.append(second)
    koa.wait_ready(cluster.url("querier-1"), second)
    begin = begin_ms()
    end = begin + HOURS * 3600_000
    for tenant in ("a", "b"):
        load(cluster.push, begin, begin + 5 * 3600_000, tenant)
    cluster.flush_all()
    for tenant in ("a", "b"):
        load(cluster.push, begin + 5 * 3600_000, end, tenant)
    bases = (cluster.query, cluster.url("querier-1"))
    before = everything(bases[1], begin, end, "a")     # warm: it knows the catalogues
    check(len(before) == 24, f"{len(before)} series")
    want = before
    for n, name in enumerate(("gone_0", "gone_1", "gone_2")):
        delete(bases[n % 2], [f"{name}{{job='j0'}}"], tenant="a")
        want = without(want, lambda l: (l["__name__"], l["job"]) == (name, "j0"))
        for base in bases[::-1] if n % 2 == 0 else bases:
            same(everything(base, begin, end, "a"), want, f"{name} at {base}")
            names_agree(base, want, begin, end, f"{name} at {base}", "a")
    delete(bases[0], ["{job='j1'}"], begin, begin + 3600_000, tenant="a")       # all partitions
    want = without(want, lambda l: l["job"] == "j1", begin, begin + 3600_000)
    for base in bases[::-1]:
        same(everything(base, begin, end, "a"), want, f"by job at {base}")
        same(everything(base, begin, end, "b"), before, "the other tenant's")
    check(api(bases[0], "admin/tsdb/deletions", tenant="b")["done"], "another tenant's deletions are told")

    # Both owners are killed; whoever comes back obeys.
    for p in cluster.ingestors:
        p.kill()
    for p in cluster.ingestors:
        p.start()
    cluster.ready()
    for base in bases:
        same(everything(base, begin, end, "a"), want, f"after kill -9 at {base}")


def test_what_cannot_be_deleted_is_refused_with_words(world):
    ours = koa.Serve(world)
    base = f"{ours.query}/api/v1/admin/tsdb/delete_series"
    for query, words in (("", "no match[]"), ("match[]={}", "non-empty"), ("match[]=up{", "parse"),
                         ("match[]=up%7Ba=~'('%7D", "regex"), ("match[]=up&start=2&end=1", "before start"),
                         ("match[]=up&start=x", "start"), ("match[]={a!='b'}", "non-empty")):
        status, _, body = http(f"{base}?{query}", b"", method="POST")
        text = body.decode()
        check(status == 400 and json.loads(text)["errorType"] == "bad_data", f"{query}: {status} {text}")
        check(words in text or words in ("parse", "regex"), f"{query}: {text}")
    status, _, _ = http(f"{base}?match[]=up")
    check(status == 405, f"GET: {status}")
    for _ in range(3):                                 # what there is not is deleted all the same
        delete(ours.query, ["up"])
    check(api(ours.query, "admin/tsdb/deletions")["done"], "nothing is left of what there was not")
