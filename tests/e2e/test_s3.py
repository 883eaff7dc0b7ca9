"""Object storage that is S3: Ceph's radosgw."""
import contextlib
import json
import os
import shutil
import subprocess
import threading
import time

import koa
from koa import api, check, eventually, http
from koa_s3 import S3, Line
from test_hostile import SmallDisk

STEP = 15_000


def begin_ms(hours):
    return (int(time.time()) // 7200 * 7200 - hours * 3600) * 1000


def load(base, begin, end, families=6, series=5):
    """Counters and gauges with odd values, `families` metrics of `series` each, every STEP."""
    for at in range(begin, end, 600_000):
        batch = []
        for m in range(families):
            for s in range(series):
                labels = {"__name__": f"s3_{m}_total" if m % 2 else f"s3_{m}", "job": f"j{s % 2}", "series": str(s)}
                batch.append((labels, [(t, (t // STEP * (m + 1) + s * 17) % 9973 / 8) for t in
                                       range(at, min(at + 600_000, end), STEP)]))
        status, words = koa.push(base, batch)
        check(status == 204, f"push: {status} {words}")


def questions(begin, end):
    at = [("time", f"{end / 1000:.3f}")]
    span = [("start", f"{begin / 1000:.3f}"), ("end", f"{end / 1000:.3f}"), ("step", "60")]
    for m in range(6):
        name = f"s3_{m}_total" if m % 2 else f"s3_{m}"
        yield "query", [("query", f"sum by (job) ({name})"), *at]
        yield "query_range", [("query", name), *span]
        yield "query_range", [("query", f"rate({name}[5m])"), *span]
        yield "query", [("query", f"count_over_time({name}[4h])"), *at]
    yield "query_range", [("query", "sum by (__name__) ({job='j1'})"), *span]
    yield "query_range", [("query", "quantile(0.9, {__name__=~'s3_.*'})"), *span]
    yield "series", [("match[]", "{job=~'j.'}"), ("start", str(begin // 1000)), ("end", str(end // 1000))]
    yield "labels", [("start", str(begin // 1000)), ("end", str(end // 1000))]
    yield "label/__name__/values", [("start", str(begin // 1000)), ("end", str(end // 1000))]


def answers(base, begin, end):
    """What is answered to each question, as it came; whole, or the test fails."""
    got = []
    for path, params in questions(begin, end):
        body = json.dumps(koa.api(base, path, **{k.replace("match[]", "match"): v for k, v in params}), sort_keys=True)
        check(len(body) > 20, f"{path} {params}: {body}")
        got.append((path, params, body))
    return got


def same(before, after, when):
    for (path, params, a), (_, _, b) in zip(before, after, strict=True):
        check(a == b, f"{when}: {path} {params}: {a[:300]} became {b[:300]}")


def test_answers_from_s3_are_those_from_memory(world):
    s3 = S3(world)
    ours = koa.Serve(world, *s3.flags())
    begin, end = begin_ms(6), begin_ms(0)
    load(ours.push, begin, end)
    before = answers(ours.query, begin, end)
    ours.flush_all()
    keys = s3.list()
    check(sum(k.endswith("/checkpoint") for k in keys) >= 3 and "catalogue/cell" in keys, f"in the bucket: {keys}")
    check(not os.listdir(world.path("data", "store")), "objects in the folder, too")
    same(before, answers(ours.query, begin, end), "after the flush")
    ours.process.stop()
    ours.process.start()
    ours.ready()
    same(before, answers(ours.query, begin, end), "after a restart")


def test_a_store_that_knows_only_old_signatures_will_do(world):
    s3 = S3(world)
    ours = koa.Serve(world, *s3.flags(), "--store.s3.signature", "v2")
    begin, end = begin_ms(4), begin_ms(0)
    load(ours.push, begin, end)
    before = answers(ours.query, begin, end)
    ours.flush_all()
    same(before, answers(ours.query, begin, end), "after the flush")
    check(any(k.endswith("/checkpoint") for k in s3.list()), "nothing in the bucket")


def test_s3_away_stops_neither_intake_nor_answers_from_memory_and_is_caught_up_with(world):
    s3 = S3(world)
    line = Line(world, s3.endpoint)
    # No cut but those that are asked for: what went up before S3 was gone could not be answered.
    ours = koa.Serve(world, *s3.flags(endpoint=line.url), "--store.s3.tries", "2", "--ingestor.cut_delay", "24h")
    begin, end = begin_ms(4), begin_ms(0)
    middle = (begin + end) // 2
    load(ours.push, begin, middle)
    line.cut()
    status, _, body = http(f"{ours.flush}/api/v1/admin/tsdb/flush", b"", method="POST")
    check(status == 503 and b"store" in body or b"object" in body, f"flush without S3: {status} {body[:400]!r}")
    load(ours.push, middle, end)
    before = answers(ours.query, begin, end)
    check(not any(k.endswith("/checkpoint") for k in s3.list()), "something came through")
    ours.process.kill()                                # what was cut is not lost with the process
    ours.process.start()
    time.sleep(2)
    line.join()
    ours.ready()
    eventually("uploads by itself", lambda: any(k.endswith("/checkpoint") for k in s3.list()), 60)
    ours.flush_all()
    same(before, answers(ours.query, begin, end), "after S3 came back")
    for secret in s3.keys:
        check(secret not in ours.process.words(), "a key in the log")


def test_with_s3_away_pushes_are_taken_up_to_the_disks_mark_and_again_once_it_is_caught_up_with(world):
    disk = SmallDisk.mounted(world, 24 << 20)
    if disk is None:
        return
    s3 = S3(world)
    line = Line(world, s3.endpoint)
    # No cut but ours, and no snapshot: what fills the disk is the log, and what cannot go up.
    ours = koa.Serve(world, *s3.flags(endpoint=line.url), "--store.s3.tries", "1", "--disk.high_water", "60",
                     "--disk.low_water", "50", "--log.segment_bytes", "1MiB", "--ingestor.cut_delay", "24h",
                     "--ingestor.snapshot_interval", "0", data=os.path.join(disk, "data"))
    begin, series, each = begin_ms(2), 40, 100

    def push(n):                                       # a run of odd values, which no codec makes small
        return koa.push(ours.push, [({"__name__": "away", "n": str(i)}, [
            (begin + n * 10_000 + k * 100, (n * 7919 + i * 104729 + k * 1299709) * 2654435761 % 2**53 / 7) for k in range(each)])
            for i in range(series)])

    def all_of(count):
        got = api(ours.query, "query", query=f"sum(count_over_time(away[{count * 10 + 1}s]))", time=f"{begin / 1000 + count * 10:.3f}")
        return got["result"][0]["value"][1] == str(count * series * each)

    def used():
        s = os.statvfs(disk)
        return 100 - 100 * s.f_bavail / s.f_blocks

    def uploaded():
        return sum(k.endswith("/checkpoint") for k in s3.list())
    line.cut()
    taken, refused, flushed = 0, None, False
    while refused is None:
        check(taken < 1000, f"never refused, at {used():.0f} %")
        status, words = push(taken)
        if status == 204:
            taken += 1
            if taken % 20 == 0:
                time.sleep(0.2)                        # a look at the disk is a second apart
        else:
            refused = status, words
        if not flushed and used() > 30:
            status, _, body = http(f"{ours.flush}/api/v1/admin/tsdb/flush", b"", method="POST")
            check(status == 503, f"flush without S3: {status} {body[:300]!r}")
            check(used() > 40, f"a fileset that waits for S3 is nowhere: {used():.0f} %")
            flushed = True
    check(refused[0] == 503 and "disk" in refused[1] and "60 %" in refused[1], f"refused with {refused}")
    check(flushed and 55 < used() < 80, f"refused at {used():.0f} %")
    time.sleep(2)
    check(push(taken)[0] == 503, "taken again while S3 is away")
    check(all_of(taken), "what was taken is not all answered while S3 is away")
    check(uploaded() == 0, "something came through")
    line.join()
    eventually("uploads by itself", uploaded, 120)
    eventually("pushes are taken again", lambda: push(taken)[0] == 204, 30)
    check(used() < 50, f"taken at {used():.0f} %")
    check(all_of(taken + 1), "after S3 came back")
    ours.process.kill()
    ours.process.start()
    ours.ready()
    check(all_of(taken + 1), "after a crash")


def hung_flush(ours):
    with contextlib.suppress(OSError):
        http(f"{ours.flush}/api/v1/admin/tsdb/flush", b"", method="POST", timeout=300)


def test_s3_that_hangs_keeps_nobody_else_waiting(world):
    s3 = S3(world)
    line = Line(world, s3.endpoint)
    ours = koa.Serve(world, *s3.flags(endpoint=line.url), "--ingestor.cut_delay", "24h", "--http.drain", "1s")
    begin, end = begin_ms(4), begin_ms(0)
    load(ours.push, begin, end)
    before = answers(ours.query, begin, end)
    line.flowing.clear()
    threading.Thread(target=hung_flush, args=(ours,), daemon=True).start()
    for _ in range(3):                                 # each with a timeout of its own, far below S3's retries
        same(before, answers(ours.query, begin, end), "while uploads hang")
        load(ours.push, begin, begin + 600_000)        # again: changes nothing
    line.flowing.set()
    eventually("uploads go on", lambda: any(k.endswith("/checkpoint") for k in s3.list()), 120)
    ours.flush_all()
    same(before, answers(ours.query, begin, end), "after S3 moved again")
    load(ours.push, end, end + 600_000)
    line.flowing.clear()
    threading.Thread(target=hung_flush, args=(ours,), daemon=True).start()
    time.sleep(1)
    check(ours.process.stop(30) == 0, "a stop while uploads hang")


def certificate(world, name):
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    made = subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
                           "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", world.path(name + ".key"),
                           "-out", world.path(name + ".pem")], capture_output=True)
    check(made.returncode == 0, made.stderr.decode())
    return world.path(name + ".pem"), world.path(name + ".key")


def test_tls_is_spoken_with_whom_the_ca_file_trusts_and_nobody_else(world):
    s3 = S3(world)
    ours, theirs = certificate(world, "ours"), certificate(world, "theirs")
    line = Line(world, s3.endpoint, ours)
    for ca in ([], ["--store.s3.ca.file", theirs[0]]):
        p = world.run("refused", os.path.join(koa.BIN, "koalemos"), "serve", "--data-dir", world.path("d"), "--listen",
                      f"127.0.0.1:{koa.free_port()}", *s3.flags(endpoint=line.url), *ca)
        check(p.ended(30) == 1 and "TLS" in p.words(), p.words()[-500:])
    trusted = koa.Serve(world, *s3.flags(endpoint=line.url), "--store.s3.ca.file", ours[0])
    begin, end = begin_ms(2), begin_ms(0)
    load(trusted.push, begin, end)
    before = answers(trusted.query, begin, end)
    trusted.flush_all()
    same(before, answers(trusted.query, begin, end), "over TLS")


def test_a_proxy_is_asked_for_everything(world):
    s3 = S3(world)
    line = Line(world, s3.endpoint)                    # radosgw takes whole addresses, as a proxy would
    ours = koa.Serve(world, *s3.flags(endpoint="http://s3.invalid"), "--store.s3.proxy", line.url)
    begin, end = begin_ms(2), begin_ms(0)
    load(ours.push, begin, end)
    before = answers(ours.query, begin, end)
    ours.flush_all()
    same(before, answers(ours.query, begin, end), "by the proxy")


def cached(ours, name):
    _, _, body = http(f"{ours.query}/metrics")
    line = next(l for l in body.decode().splitlines() if l.startswith(f"koalemos_store_cache_{name} "))
    return float(line.split()[1])


def test_what_was_asked_before_is_answered_from_disk_and_memory(world):
    s3 = S3(world)
    line = Line(world, s3.endpoint)
    ours = koa.Serve(world, *s3.flags(endpoint=line.url), "--store.s3.tries", "1")
    begin, end = begin_ms(4), begin_ms(0)
    load(ours.push, begin, end)
    ours.flush_all()
    ours.process.stop()
    ours.process.start()
    ours.ready()
    before = answers(ours.query, begin, end)
    missed = cached(ours, "misses_total")
    check(missed > 0 and cached(ours, "bytes") > 0, "nothing came by the cache")
    same(before, answers(ours.query, begin, end), "again")
    check(cached(ours, "misses_total") == missed, "the same questions fetched again")
    line.cut()
    same(before, answers(ours.query, begin, end), "while S3 is away")
    line.join()


def test_what_is_wrong_with_s3_is_said_in_a_sentence(world):
    s3 = S3(world)
    with open(world.path("wrong"), "w") as f:
        f.write("WRONG\n")
    with open(world.path("empty"), "w"):
        pass

    def refused(name, *flags, wants):
        p = world.run(name, os.path.join(koa.BIN, "koalemos"), "serve", "--data-dir", world.path("d-" + name),
                      "--listen", f"127.0.0.1:{koa.free_port()}", *flags)
        status = p.ended(30)
        words = p.words()
        check(status == 1 and all(w in words for w in wants) and len(words.splitlines()) < 5,
              f"{name}: {status}: {words[-600:]}")
        check(all(k not in words for k in s3.keys), f"{name}: a key in {words}")

    refused("secret", *s3.flags(secret=world.path("wrong")), wants=("signature", "secret key"))
    refused("access", *s3.flags(access=world.path("wrong")), wants=("does not know our access key",))
    refused("no-file", *s3.flags(access=world.path("nowhere")), wants=("access_key.file", "nowhere"))
    refused("empty-file", *s3.flags(secret=world.path("empty")), wants=("secret_key.file", "is empty"))
    refused("no-bucket", *s3.flags(url="s3://no-such-bucket-here"), wants=("no bucket \"no-such-bucket-here\"",))
    refused("no-url", *s3.flags(url="http://x"), wants=("s3://bucket/prefix",))
    refused("no-endpoint", *s3.flags(endpoint="127.0.0.1"), wants=("store.s3.endpoint",))
    ours = koa.Serve(world, *s3.flags(), "--cell", "one")
    ours.process.stop()
    refused("cell", *s3.flags(), "--cell", "two", wants=("another cell", "koalemos cell one", "koalemos cell two"))
    refused("both", *s3.flags(), "--store.dir", world.path("x"), wants=("store.url", "store.dir"))
    shown = world.run("print", os.path.join(koa.BIN, "koalemos"), "serve", *s3.flags(), "--print-config")
    check(shown.ended() == 0 and all(k not in shown.words() for k in s3.keys), "a key in --print-config")


def test_a_bucket_full_of_foreign_keys_is_no_hindrance(world):
    s3 = S3(world)
    for key in ("readme.txt", "catalogue/notes", "catalogue/0000/latest", "a b/c&d", "tenant/0001/x/data",
                "anonymous/0000/0-1/data", "anonymous/9999/1699999200000-00000000000000001000/meta", "x" * 150):
        s3.put(key, b"not ours")
    foreign = s3.list()
    ours = koa.Serve(world, *s3.flags())
    begin, end = begin_ms(4), begin_ms(0)
    load(ours.push, begin, end)
    before = answers(ours.query, begin, end)
    ours.flush_all()
    same(before, answers(ours.query, begin, end), "after the flush")
    check(foreign.items() <= s3.list().items(), "foreign objects were touched")


def test_objects_cut_short_swapped_or_changed_are_named_and_never_answered(world):
    s3 = S3(world)
    ours = koa.Serve(world, *s3.flags(), "--compaction.bytes_max", "0", "--ingestor.cut_delay", "24h")
    begin, end = begin_ms(4), begin_ms(0)
    for at in (begin, (begin + end) // 2):             # two filesets a partition, and they stay
        load(ours.push, at, at + (end - begin) // 2)
        ours.flush_all()
    before = answers(ours.query, begin, end)
    data = sorted(k for k in s3.list() if k.endswith("/data"))
    part = data[0].split("/")[1]
    mine = [k for k in data if k.split("/")[1] == part]
    check(len(mine) >= 2, f"one partition has but {mine}")
    whole = {k: s3.get(k) for k in mine[:2]}
    for what, body in (("cut short", whole[mine[0]][:-10]), ("swapped", whole[mine[1]]),
                       ("changed", bytes([b ^ 1 if i == len(whole[mine[0]]) // 2 else b
                                          for i, b in enumerate(whole[mine[0]])])), ("gone", None)):
        ours.process.stop()                            # what is kept in memory would hide it
        s3.remove(mine[0])
        if body is not None:
            s3.put(mine[0], body)
        ours.process.start()
        ours.ready()
        named = 0
        for path, params, good in before:
            query = "&".join(f"{k}={koa.urllib.parse.quote(v)}" for k, v in params)
            status, _, answer = http(f"{ours.query}/api/v1/{path}?{query}")
            answer = json.loads(answer)
            if status == 200 and not answer.get("warnings"):
                check(json.dumps(answer["data"], sort_keys=True) == good, f"{what}: {path} {params} is answered wrong")
            else:
                named += mine[0].rsplit("/", 1)[0] in json.dumps(answer)
        check(named > 0, f"{what}: no answer named {mine[0]}")
    s3.put(mine[0], whole[mine[0]])
    ours.process.stop()
    ours.process.start()
    ours.ready()
    same(before, answers(ours.query, begin, end), "after it was put right")


def test_a_cluster_over_s3_answers_from_it(world):
    s3 = S3(world)
    ours = koa.Cluster(world, store=s3.flags())
    begin, end = begin_ms(4), begin_ms(0)
    load(ours.push, begin, end)
    eventually("everything is applied", lambda: answers(ours.query, begin, end), 30)
    before = answers(ours.query, begin, end)
    ours.flush_all()
    same(before, answers(ours.query, begin, end), "after the flush")
    check(any(k.endswith("/checkpoint") for k in s3.list()), "nothing in the bucket")


def rebuild(world, name, *flags, status=0):
    p = world.run(name, os.path.join(koa.BIN, "koalemos"), "catalog", "rebuild", *flags)
    got = p.ended(60)
    check(got == status, f"catalog rebuild: {got}: {p.words()[-1000:]}")
    return p.words()


def test_all_is_answered_as_before_from_the_bucket_alone(world):
    """Push, flush, upload; the local copies, the log, the KV and all of the data folder go."""
    s3 = S3(world)
    ours = koa.Serve(world, *s3.flags())
    begin, end = begin_ms(6), begin_ms(0)
    load(ours.push, begin, (begin + end) // 2)
    ours.flush_all()
    load(ours.push, (begin + end) // 2, end)
    before = answers(ours.query, begin, end)
    ours.flush_all()
    same(before, answers(ours.query, begin, end), "after the flush")
    ours.process.stop()
    shutil.rmtree(world.path("data"))
    words = rebuild(world, "rebuild", "--data-dir", world.path("data"), *s3.flags())
    check("rebuilt: revision" in words, words)
    again = rebuild(world, "again", "--data-dir", world.path("data"), *s3.flags())
    check("left as it is" in again and "rebuilt" not in again, again)
    ours.process.start()
    ours.ready()
    same(before, answers(ours.query, begin, end), "from the bucket alone")
    # Not even the manifests.
    ours.process.stop()
    shutil.rmtree(world.path("data"))
    for key in s3.list("catalogue/0"):
        s3.remove(key)
    rebuild(world, "bare", "--data-dir", world.path("data"), *s3.flags())
    ours.process.start()
    ours.ready()
    same(before, answers(ours.query, begin, end), "from the filesets alone")
    # And it goes on from there.
    later = end + 600_000
    load(ours.push, end, later)
    after = answers(ours.query, begin, later)
    ours.flush_all()
    same(after, answers(ours.query, begin, later), "after another flush")
    # A lost fileset is told, not passed over.
    ours.process.stop()
    shutil.rmtree(world.path("data"))
    checkpoints = sorted(k for k in s3.list() if k.endswith("/checkpoint"))
    part = checkpoints[0].rsplit("/", 2)[0]
    for key in checkpoints:
        if key.startswith(part):
            s3.remove(key)
    words = rebuild(world, "lost", "--data-dir", world.path("data"), *s3.flags(), status=1)
    check("NOT rebuilt" in words and part in words, words)


def test_a_clusters_catalogue_is_rebuilt_from_the_bucket(world):
    s3 = S3(world)
    ours = koa.Cluster(world, store=s3.flags())
    begin, end = begin_ms(4), begin_ms(0)
    load(ours.push, begin, end)
    eventually("everything is applied", lambda: answers(ours.query, begin, end), 30)
    before = answers(ours.query, begin, end)
    ours.flush_all()
    for p in reversed(ours.processes):
        p.stop()
    shutil.rmtree(world.path("nats"))
    for i in (0, 1):
        shutil.rmtree(world.path(f"ingestor-{i}"))
    ours.nats.start()
    eventually("NATS is up", lambda: koa.socket.create_connection(("127.0.0.1", ours.nats_port)), 20)
    rebuild(world, "rebuild", "--config", world.path("cluster.yaml"), *s3.flags())
    for p in ours.processes[1:]:
        p.start()
    ours.ready()
    same(before, answers(ours.query, begin, end), "from the bucket alone")


def test_a_rebuilt_catalogue_knows_where_metrics_were_spread(world):
    s3 = S3(world)
    ours = koa.Serve(world, *s3.flags(), "--placement.spread_series", "50", "--placement.spread_delay", "0",
                     "--placement.spread_window", "4s", "--ingestor.census", "1s")
    at = int(time.time()) * 1000

    def push(step):
        status, words = koa.push(ours.push, [({"__name__": "wide", "series": str(s)}, [(at + step * 1000, float(s))])
                                             for s in range(400)])
        check(status == 204, words)

    def partitions():
        return {k.split("/")[1] for k in s3.list() if k.endswith("/checkpoint")}
    step = 0
    while len(partitions()) < 4:
        check(step < 60, "the metric was never spread")
        push(step)
        time.sleep(1)
        if step % 5 == 4:
            ours.flush_all()
        step += 1
    ours.flush_all()
    asked = [("query", [("query", q), ("time", f"{at / 1000 + step:.3f}")])
             for q in ("count(wide)", "sum(wide)", "wide", "count_over_time(wide[10m])")]
    before = [koa.api(ours.query, path, **dict(params)) for path, params in asked]
    ours.process.stop()
    shutil.rmtree(world.path("data"))
    words = rebuild(world, "rebuild", "--data-dir", world.path("data"), *s3.flags())
    check("spreads of 1 metrics restored" in words, words)
    ours.process.start()
    ours.ready()
    after = [koa.api(ours.query, path, **dict(params)) for path, params in asked]
    check(before == after, f"{asked}: {str(before)[:300]} became {str(after)[:300]}")
    check(before[0]["result"][0]["value"][1] == "400", before[0])


def local_copies(world):
    return {os.path.relpath(d, world.path("data", "filesets")) for d, _, files in os.walk(world.path("data", "filesets"))
            if "checkpoint" in files}


def test_local_copies_stay_for_their_time_then_all_comes_from_the_bucket(world):
    s3 = S3(world)
    line = Line(world, s3.endpoint)
    end = begin_ms(0)
    begin = end - 4 * 3_600_000
    # From the samples on: what was flushed turns old while we look.
    flags = [*s3.flags(endpoint=line.url), "--querier.results_cache_max", "0", "--store.s3.tries", "1", "--querier.cache_max", "1MiB",
             "--compaction.bytes_max", "0"]            # a merge would change both, in its own time
    ours = koa.Serve(world, *flags, "--ingestor.local_retention", "12h")
    load(ours.push, begin, end)
    before = answers(ours.query, begin, end)
    ours.flush_all()
    stored = {k[:-len("/checkpoint")] for k in s3.list() if k.endswith("/checkpoint")}
    eventually("local copies of what is in the bucket", lambda: local_copies(world) == stored and stored, 30)
    same(before, answers(ours.query, begin, end), "after the flush")
    ours.process.stop()
    ours.process.start()
    ours.ready()
    check(local_copies(world) == stored, f"a start changed local copies: {sorted(local_copies(world) ^ stored)}")
    same(before, answers(ours.query, begin, end), "manifests are read")
    line.cut()
    same(before, answers(ours.query, begin, end), "while S3 is away")
    line.join()
    # Now they are too old: gone at a start, or while it runs.
    ours.process.stop()
    left = int(time.time() * 1000) - (end - STEP) + 15_000
    ours = koa.Serve(world, *flags, "--ingestor.local_retention", f"{left}ms")
    eventually("local copies are evicted", lambda: not local_copies(world), 60)
    same(before, answers(ours.query, begin, end), "from the bucket")
    ours.process.stop()
    shutil.rmtree(world.path("data"))
    rebuild(world, "rebuild", "--data-dir", world.path("data"), *s3.flags())
    ours.process.start()
    ours.ready()
    same(before, answers(ours.query, begin, end), "from the bucket alone")
