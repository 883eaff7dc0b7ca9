"""The life of stored data: merged, expired, put in quarantine; and a disk that must not become full."""
import glob
import json
import os
import subprocess
import time

import koa
from koa import api, check, eventually, http

QUICK = ("--ingestor.window", "60s", "--ingestor.cut_delay", "1s", "--compaction.window", "1h", "--compaction.files", "3")
SERIES = 20


def inspect(data):
    p = subprocess.run([os.path.join(koa.BIN, "koalemos"), "inspect", data, "--json"], capture_output=True, text=True,
                       timeout=120)
    check(p.returncode == 0, f"inspect: {p.returncode} {p.stderr}")
    return json.loads(p.stdout)


def metric(ours, name):
    return metric_of(ours.push, name)


def metric_of(base, name):
    for line in http(f"{base}/metrics")[2].decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise koa.Failed(f"/metrics has no {name}")


def push_batches(ours, begin_ms, batches, flush=True):
    """Each batch a minute, flushed: small filesets, and samples that overwrite those of the batch before."""
    for b in range(batches):
        series = []
        for i in range(SERIES):
            points = [(begin_ms + b * 60_000 + k * 1000, float(b * 1000 + i)) for k in range(60)]
            if b > 0:
                points.insert(0, (begin_ms + (b - 1) * 60_000 + 59_000, float(-b)))
            series.append(({"__name__": "life", "n": str(i)}, points))
        status, words = koa.push(ours.push, series)
        check(status == 204, f"push: {status} {words}")
        if flush:
            ours.flush_all()


def everything(ours, begin_ms, batches):
    return api(ours.query, "query_range", query="life", start=begin_ms / 1000, end=(begin_ms + batches * 60_000) / 1000,
               step=1)["result"]


def test_small_filesets_are_merged_while_queries_go_on(world):
    ours = koa.Serve(world, *QUICK, "--compaction.bytes_max", "0")
    begin = (int(time.time()) // 3600 - 2) * 3600_000
    push_batches(ours, begin, 8)
    before = everything(ours, begin, 8)
    check(len(before) == SERIES, f"{len(before)} series")
    many = len(inspect(world.path("data"))["filesets"])
    ours.process.kill()
    merging = koa.Serve(world, *QUICK, name="merging")
    for moment in range(16):                            # killed now and then; every answer is the same
        check(everything(merging, begin, 8) == before, "the answer changed")
        if moment % 4 == 3:
            merging.process.kill()
            merging = koa.Serve(world, *QUICK, name=f"merging-{moment}")
        time.sleep(0.1)
    eventually("merges", lambda: sum(1 for f in inspect(world.path("data"))["filesets"] if f["window_ms"] == 3600_000)
               >= 1, 60)
    check(len(inspect(world.path("data"))["filesets"]) > many / 2, "replaced filesets are there for a while")
    check(everything(merging, begin, 8) == before, "the answer changed")
    status = subprocess.run([os.path.join(koa.BIN, "koalemos"), "verify", world.path("data")], capture_output=True)
    check(status.returncode == 0, f"verify: {status.stdout}")


def test_a_cluster_merges_and_answers_the_same(world):
    cluster = koa.Cluster(world, *QUICK)
    begin = (int(time.time()) // 3600 - 2) * 3600_000
    push_batches(cluster, begin, 5)
    before = everything(cluster, begin, 5)
    check(len(before) == SERIES, f"{len(before)} series")

    def of_all(name):
        return sum(metric_of(cluster.url(i.name), name) for i in cluster.ingestors)
    eventually("merges", lambda: of_all("koalemos_ingestor_compactions_total") >= 1, 60)
    check(everything(cluster, begin, 5) == before, "the answer changed")
    p = subprocess.run([os.path.join(koa.BIN, "koalemos"), "verify", world.path("store")], capture_output=True)
    check(p.returncode == 0, f"verify: {p.stdout}")
    check(not any("doormen" in i.words() for i in cluster.ingestors), "the disk's state cannot be told")


def test_what_is_past_its_retention_is_answered_no_more_per_tenant(world):
    with open(world.path("life.yaml"), "w") as f:
        f.write("retention: 30m\ntenants:\n  keeps:\n    retention: 30d\n")
    ours = koa.Serve(world, *QUICK, "--config", world.path("life.yaml"))
    old, new = int(time.time() * 1000) - 3_600_000, int(time.time() * 1000) - 60_000
    for tenant in (None, "keeps"):
        status, words = koa.push(ours.push, [({"__name__": "kept", "age": "old"}, [(old, 1.0)])], tenant=tenant)
        check(status == 204, f"push: {status} {words}")
    ours.flush_all()
    status, words = koa.push(ours.push, [({"__name__": "kept", "age": "new"}, [(new, 2.0)])])
    check(status == 204, f"push: {status} {words}")
    ours.flush_all()

    def ages(tenant):
        return {s["age"] for s in api(ours.query, "series", match="kept", start=old / 1000 - 60, end=time.time(),
                                      tenant=tenant)}
    eventually("expiry", lambda: ages(None) == {"new"}, 60)
    check(ages("keeps") == {"old"}, "another tenant's data went, too")
    check(metric(ours, "koalemos_ingestor_filesets_expired_total") == 1, "not counted")


def test_a_corrupt_fileset_is_named_in_warnings_and_put_in_quarantine(world):
    ours = koa.Serve(world, *QUICK, "--compaction.bytes_max", "0")
    begin = (int(time.time()) // 3600 - 2) * 3600_000
    push_batches(ours, begin, 3)
    check(ours.process.stop() == 0, "stop")
    data = max(glob.glob(world.path("data", "store", "anonymous", "*", "*", "data")), key=os.path.getsize)
    name = os.path.relpath(os.path.dirname(data), world.path("data", "store"))
    with open(data, "r+b") as f:
        f.seek(os.path.getsize(data) // 2)
        byte = f.read(1)
        f.seek(-1, 1)
        f.write(bytes([byte[0] ^ 1]))
    ours = koa.Serve(world, *QUICK, name="again")

    def warnings():
        status, _, body = http(f"{ours.query}/api/v1/query_range?query=life&start={begin / 1000}&end={begin / 1000 + 300}&step=10")
        check(status == 200, f"{status} {body[:300]!r}")
        return json.loads(body).get("warnings", [])
    check(any(name in w for w in warnings()), f"not named: {warnings()}")
    eventually("quarantine", lambda: metric(ours, "koalemos_ingestor_filesets_quarantined_total") >= 1, 60)
    eventually("the mark is seen", lambda: any(name in w and "quarantine" in w for w in warnings()), 10)


def test_a_disk_past_its_mark_refuses_pushes_before_it_is_full_and_takes_them_again(world):
    if os.geteuid() != 0:
        print("       SKIPPED, NOTHING TESTED: not root", flush=True)
        return
    disk = world.path("disk")
    os.makedirs(disk)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
    world.callback(lambda: subprocess.run(["umount", "-l", disk]))
    with open(os.path.join(disk, "ballast"), "wb") as f:
        f.write(b"x" * (38 << 20))
    ours = koa.Serve(world, "--disk.high_water", "70", "--disk.low_water", "60", "--log.segment_bytes", "1MiB",
                     data=os.path.join(disk, "data"))

    def used():
        s = os.statvfs(disk)
        return 100 - 100 * s.f_bavail / s.f_blocks

    begin, sent, refused = int(time.time() * 1000) - 3_600_000, 0, None
    for n in range(3000):
        status, words = koa.push(ours.push, [({"__name__": "disk", "n": str(i)},
                                              [(begin + n * 1000 + k, float(hash((n, i, k)))) for k in range(100)])
                                             for i in range(30)])
        if status != 204:
            refused = status, words
            break
        sent = n
        if n % 20 == 19:
            time.sleep(0.2)                             # a look at the disk is a second apart
    check(refused is not None, f"never refused, at {used():.0f} %")
    check(refused[0] == 503 and "disk" in refused[1] and "70 %" in refused[1], f"{refused}")
    check(used() < 95, f"refused only at {used():.0f} %")
    # Queries and flushes go on, and what was acked is there.
    at = (begin + sent * 1000) / 1000
    check(koa.one(ours.query, "count(disk)", at + 1) == 30, "queries do not go on")
    ours.flush_all()
    check(koa.one(ours.query, "count(disk)", at + 1) == 30, "queries do not go on after a flush")
    check(metric(ours, "koalemos_ingestor_disk_full") == 1, "not in /metrics")
    os.remove(os.path.join(disk, "ballast"))
    eventually("pushes are taken again", lambda: koa.push(ours.push, [({"__name__": "disk", "n": "0"}, [
        (int(time.time() * 1000), 1.0)])])[0] == 204, 20)
    check(ours.process.stop() == 0, "stop")
