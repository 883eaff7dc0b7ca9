"""A cell under failures: what was acknowledged is there, exactly once, whoever died."""
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time

import koa
from koa import api, check, eventually, http
from koa_apart import apart
from koa_cell import SILENT_S, Cell, metric, nats_request
from koa_s3 import S3
from test_durability import Writer, verify


def writers_of(cell, count=3):
    begin_ms = int(time.time() * 1000) - 3 * 3600_000
    writers = [Writer(cell.push, n, begin_ms, series=8) for n in range(count)]
    for w in writers:
        w.start()
    return writers


def done(cell, writers, seconds=30):
    before = [w.acked for w in writers]
    eventually("writes are taken again", lambda: all(w.acked > b for w, b in zip(writers, before)), seconds)
    for w in writers:
        w.stopping = True
    for w in writers:
        w.join(30)
    total = verify(cell.query, writers)
    check(total > 0, "nothing was written")
    if len(cell.nats) == 1:                            # three of 2.9 have been seen to tell two members different things
        check(cell.ask("health")["differences"] == [], f"{cell.ask('health')}")
    return total


def test_cell_places_two_replicas_in_two_zones_and_an_owner_for_each_partition(world):
    cell = Cell(world)
    cell.settled(["ingestor-0", "ingestor-1"])
    eventually("both own", lambda: {p["lease"]["owner"] for p in cell.shards()} == {"ingestor-0", "ingestor-1"}, 20)
    cell.settled(["ingestor-0", "ingestor-1"])
    for p in cell.shards():
        check(len({m["zone"] for m in p["members"]}) == 2, f"zones of {p}")
    health = cell.ask("health")
    check(health["troubles"] == [], f"{health}")
    out = subprocess.run([os.path.join(koa.BIN, "koalemos"), "cluster", "status", "--config",
                          world.path("cell.yaml")], capture_output=True, text=True, timeout=60).stdout
    check("ingestor-1" in out and "ready" in out, out)


def test_cell_an_owner_killed_is_followed_by_its_standby_and_nothing_acked_is_lost(world):
    cell = Cell(world)
    cell.settled(["ingestor-0", "ingestor-1"])
    writers = writers_of(cell)
    time.sleep(1)
    cell.ingestors[0].kill()
    # The standby answers at once, by name; it owns once the other is silent.
    data = api(cell.query, "query", query="count(last_over_time(checked_0[4h]))")
    check(data["result"] != [], "the standby does not answer")
    cell.owned_by("ingestor-1")
    cell.flush_all()                                   # it cuts and writes the catalogue now
    cell.ingestors[0].start()
    cell.ready()
    cell.settled(["ingestor-0", "ingestor-1"])
    print(done(cell, writers), "samples verified")
    cell.flush_all()
    for w in writers:
        check(verify(cell.query, [w]) > 0, "after the flush")
    # What the two sealed is compared: not what one of them replayed just now, but what follows.
    before = {n: metric(cell.url(n), "koalemos_ingestor_cuts_compared_total") for n in ("ingestor-0", "ingestor-1")}
    for n in range(3):
        for partition in range(8):
            koa.push(cell.push, [({"__name__": f"more_{partition}"}, [(int(time.time() * 1000), n)])])
        cell.flush_all()
    eventually("cuts are compared", lambda: all(metric(cell.url(n), "koalemos_ingestor_cuts_compared_total") > before[n]
                                                for n in before), 20)
    check(all(metric(cell.url(n), "koalemos_ingestor_cuts_differing_total") == 0 for n in before), "they differ")
    out = subprocess.run([os.path.join(koa.BIN, "koalemos"), "cluster", "status", "--config", world.path("cell.yaml")],
                         capture_output=True, text=True, timeout=60).stdout
    check("OWNER" in out and "DIFFERENCES" not in out, out)


def test_cell_grows_from_two_to_four_and_back_and_a_member_comes_back_with_an_empty_disk(world):
    cell = Cell(world, "--ingestor.snapshot_interval=3s")
    cell.settled(["ingestor-0", "ingestor-1"])
    writers = writers_of(cell)
    time.sleep(0.5)
    cell.flush_all()
    four = [f"ingestor-{i}" for i in range(4)]
    cell.add_ingestor(2)
    cell.add_ingestor(3)
    cell.ready()
    cell.settled(four)
    eventually("all four hold something", lambda: {m["node"] for p in cell.shards() for m in p["members"]} == set(four), 30)
    cell.settled(four)
    for i in (0, 1):
        cell.wish("drain", node=f"ingestor-{i}")
    cell.settled(["ingestor-2", "ingestor-3"])
    # One of them loses its disk; what the other owns by then has snapshots, which come over the bus.
    cell.ingestors[2].kill()
    shutil.rmtree(world.path("ingestor-2"))
    cell.owned_by("ingestor-3")
    eventually("it has snapshots", lambda: os.path.exists(world.path("ingestor-3/snapshots")) and
               sum(os.path.exists(world.path(f"ingestor-3/snapshots/000{p}/head")) for p in range(8)) >= 1, 30)
    cell.ingestors[2].start()
    cell.ready()
    cell.settled(["ingestor-2", "ingestor-3"])
    metrics = http(f"{cell.url('ingestor-2')}/metrics")[2].decode()
    check("koalemos_ingestor_snapshots_from_peer_total 0\n" not in metrics, "no snapshot came from the owner")
    print(done(cell, writers), "samples verified")
    cell.flush_all()
    check(verify(cell.query, writers) > 0, "after the flush")


def test_cell_all_disks_are_lost_at_once_and_filled_from_the_object_storage(world):
    s3 = S3(world)
    cell = Cell(world, "--ingestor.snapshot_interval=1s", "--ingestor.snapshot_store_interval=3s",
                "--ingestor.spill_least=1", store=s3.flags())
    both = ["ingestor-0", "ingestor-1"]
    cell.settled(both)
    writers = writers_of(cell)
    stored = lambda: {k.rsplit("/", 1)[0] for k in s3.list("catalogue/snapshots/") if k.endswith("/index")}
    eventually("partitions have snapshots in the store", lambda: len({k.split("/")[2] for k in stored()}) >= 3, 60)
    cell.flush_all()                                   # what a cut takes after that is in filesets
    time.sleep(2)
    for i in (0, 1):
        cell.ingestors[i].kill()
    for name in both:
        shutil.rmtree(world.path(name))
    for i in (0, 1):
        cell.ingestors[i].start()
    cell.ready()
    cell.settled(both)
    came = sum(metric(cell.url(n), "koalemos_ingestor_snapshots_from_store_total") for n in both)
    used = sum(metric(cell.url(n), "koalemos_ingestor_snapshots_restored_total") for n in both)
    check(came >= 1 and used >= 1, f"{came} snapshots came from the store, {used} were used")
    print(done(cell, writers), "samples verified,", int(came), "snapshots came from the store")
    eventually("no more than two a partition", lambda: all(
        sum(k.split("/")[2] == p for k in stored()) <= 2 for p in {k.split("/")[2] for k in stored()}), 30)
    cell.flush_all()
    check(verify(cell.query, writers) > 0, "after the flush")


def cluster(world, *words):
    """A verb of `koalemos cluster`, which has to be understood."""
    p = subprocess.run([os.path.join(koa.BIN, "koalemos"), "cluster", *words, "--config", world.path("cell.yaml")],
                       capture_output=True, text=True, timeout=120)
    check(p.returncode != 2, p.stderr)
    return p.returncode, p.stdout + p.stderr


def test_cell_who_leaves_waits_until_others_have_what_it_has_and_counts_again_when_it_is_back(world):
    cell = Cell(world)
    both, marks = ["ingestor-0", "ingestor-1"], lambda: {n["name"]: n["mark"] for n in cell.ask("nodes")["nodes"]}
    cell.settled(both)
    writers = writers_of(cell)
    # The other has all of it: at once, and nothing moves.
    code, said = cluster(world, "leave", "ingestor-1", "--wait=60s")
    check(code == 0 and "another one, who has caught up" in said, said)
    cell.settled(both)
    check(marks()["ingestor-1"] == "leaving", f"{marks()}")
    # Two that leave do not count on each other: the second stays the last one.
    code, said = cluster(world, "leave", "ingestor-0", "--wait", "60s")
    check(code == 0 and "nobody stays who could take over" in said, said)
    cell.ingestors[1].stop()
    cell.add_ingestor(1)
    eventually("what is back says so", lambda: marks()["ingestor-1"] == "", 30)
    # With a third, whose partitions are on nobody else that stays are moved first.
    cell.add_ingestor(2, zone="a")
    eventually("the third has some", lambda: any(m["node"] == "ingestor-2" for p in cell.shards() for m in p["members"]), 60)
    cell.wish("drain", node="ingestor-1")
    code, said = cluster(world, "leave", "ingestor-0", "--wait=8s")
    check(code == 0, said)
    check(not any(m["node"] == "ingestor-0" and len(p["members"]) == 1 for p in cell.shards() for m in p["members"]), f"{cell.shards()}")
    done(cell, writers)
    # Where all of the cell ends, nobody waits for a NATS that has ended.
    cell.nats[0].kill()
    code, said = cluster(world, "leave", "ingestor-2", "--wait=1h")
    check(code == 1 and "out of reach" in said, said)


def test_cell_two_that_leave_at_once_give_what_only_they_have_to_a_third(world):
    cell = Cell(world, ingestors=3)
    cell.settled([f"ingestor-{i}" for i in range(3)])
    writers = writers_of(cell)
    check(any({m["node"] for m in p["members"]} == {"ingestor-0", "ingestor-1"} for p in cell.shards()), f"{cell.shards()}")
    said = {}
    both = [threading.Thread(target=lambda i=i: said.update({i: cluster(world, "leave", f"ingestor-{i}", "--wait=16s")})) for i in range(2)]
    for t in both:
        t.start()
    for t in both:
        t.join()
    check(all(code == 0 for code, _ in said.values()), f"{said}")
    for p in cell.shards():
        check(any(m["node"] == "ingestor-2" and m["state"] == "ready" for m in p["members"]), f"only who left has {p}")
    for i in range(2):
        cell.ingestors[i].stop()
    done(cell, writers)
    for i in range(2):
        cell.add_ingestor(i)
    eventually("no mark is left", lambda: {n["mark"] for n in cell.ask("nodes")["nodes"]} == {""}, 30)
    cell.settled([f"ingestor-{i}" for i in range(3)], 90)


def test_cell_a_member_makes_a_partition_anew_on_a_wish_and_never_the_last_that_has_it(world):
    cell = Cell(world, "--ingestor.snapshot_interval=1s", "--ingestor.snapshot_samples=1", partitions=4)
    both = ["ingestor-0", "ingestor-1"]
    cell.settled(both)
    writers = writers_of(cell)
    is_there = lambda name, n, file: os.path.exists(os.path.join(world.path(name), "snapshots", f"{n:04}", file))
    eventually("each has a snapshot", lambda: all(any(is_there(i, p, "head") for p in range(4)) for i in both), 30)
    repairs = lambda name: metric(cell.url(name), "koalemos_ingestor_repairs_total")
    refused = lambda **q: http(f"{cell.push}/api/v1/koalemos/repair?" + "&".join(f"{k}={v}" for k, v in q.items()), b"",
                               method="POST")
    check(refused(partition=9, node=both[0])[0] == 400 and refused(partition="x", node=both[0])[0] == 400 and
          refused(partition=1)[0] == 400, "no such partition")
    check(refused(partition=1, node="ingestor-9")[0] == 400, "no such member")
    for n, p in enumerate(cell.shards()):              # the owner of each, over HTTP and by the command; then the standby
        for name in (p["lease"]["owner"], next(m["node"] for m in p["members"] if m["node"] != p["lease"]["owner"])):
            had, before = is_there(name, n, "head"), repairs(name)
            if n % 2:
                code, said = cluster(world, "repair", str(n), name, "--wait", "60s")
                check(code == 0 and f"{name} makes partition {n} anew" in said, said)
            else:
                cell.wish("repair", partition=n, node=name)
            eventually(f"{name} begins with {n}", lambda: repairs(name) == before + 1, 30)
            cell.settled(both, 60)
            check(is_there(name, n, "head.kept") == had, f"{name} kept what it had of {n}: {had}")
    for name in both:
        check(repairs(name) == 4, f"repairs of {name}")
    check(cell.ask("health")["differences"] == [], "they differ")
    done(cell, writers)
    cell.flush_all()
    check(verify(cell.query, writers) > 0, "after the flush")
    cell.ingestors[1].kill()
    eventually("it is missed", lambda: refused(partition=0, node=both[0])[0] == 409, 30)
    code, said = cluster(world, "repair", "0", both[0])
    check(code == 1 and "is not let go of" in said, said)
    code, said = cluster(world, "repair", "zero", both[0])
    check(code == 1 and "repair PARTITION NODE" in said, said)


def test_cell_a_drain_waits_for_its_end_and_names_who_is_not_there(world):
    cell = Cell(world, ingestors=3)
    all_ = [f"ingestor-{i}" for i in range(3)]
    cell.settled(all_)
    writers = writers_of(cell)
    code, said = cluster(world, "drain", "ingestor-9")
    check(code == 1 and "there is no ingestor ingestor-9" in said, said)
    # A chart that says who stays: the third goes, empty when the command ends.
    code, said = cluster(world, "keep", "--prefix=ingestor-", "--names", "ingestor-0,ingestor-1", "--wait", "90s")
    check(code == 0 and "ingestor-2: others have what it had" in said, said)
    cell.settled(all_[:2], 5)
    cell.ingestors[2].stop()
    code, said = cluster(world, "drain", "ingestor-0", "ingestor-1", "--wait=60s")
    check(code == 1 and "no other ingestor is alive and stays" in said, said)
    check(cluster(world, "drain", "ingestor-0", "ingestor-1", "--undo")[0] == 0, "undo")
    cell.add_ingestor(2)
    code, said = cluster(world, "keep", "--prefix=ingestor-", "--names=" + ",".join(all_))
    check(code == 0 and "nobody has to go" in said, said)
    cell.settled(all_, 90)
    done(cell, writers)


def test_cell_an_owner_that_slept_past_its_lease_changes_nothing_when_it_wakes(world):
    cell = Cell(world)
    cell.settled(["ingestor-0", "ingestor-1"])
    writers = writers_of(cell)
    time.sleep(0.5)
    sleeper = cell.ingestors[0]
    sleeper.child.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    status, _, body = http(f"{cell.query}/api/v1/query?query=last_over_time(checked_0[4h])")
    check(status == 200 and b"warnings" not in body and b'"result":[]' not in body, f"{status} {body[:300]!r}")
    print(f"a question to an owner that hangs took {time.monotonic() - begin:.1f} s")
    metrics = http(f"{cell.query}/metrics")[2].decode()
    check("koalemos_querier_hedges_won_total 0\n" not in metrics, "no standby answered before the owner was given up")
    cell.owned_by("ingestor-1")
    status, _, body = http(f"{cell.url('ingestor-1')}/api/v1/admin/tsdb/flush", b"", method="POST")
    check(status == 204, f"flush: {status} {body[:300]!r}")
    sleeper.child.send_signal(signal.SIGCONT)
    cell.ready()
    cell.settled(["ingestor-0", "ingestor-1"])
    cell.flush_all()
    print(done(cell, writers), "samples verified")


def test_cell_what_is_missing_is_named_or_in_strict_mode_refused(world):
    cell = Cell(world, replicas=1)
    eventually("both own", lambda: len({p["lease"]["owner"] for p in cell.shards() if p["lease"]}) == 2, 30)
    now = int(time.time() * 1000)
    series = [({"__name__": f"metric_{i}"}, [(now, float(i))]) for i in range(40)]
    status, words = koa.push(cell.push, series)
    check(status == 204, f"push: {status} {words}")
    eventually("all are there", lambda: len(koa.instant(cell.query, '{__name__=~"metric_.*"}')) == 40)
    cell.ingestors[0].kill()

    def ask(strict):
        status, _, body = http(f"{cell.query}/api/v1/query?query=" + "%7B__name__%3D~%22metric_.*%22%7D" +
                               ("&partial_response=false" if strict else ""), timeout=60)
        return status, json.loads(body)
    lost = {p["partition"] for p in cell.shards() if p["members"][0]["node"] == "ingestor-0"}
    status, answer = ask(False)
    named = {int(w.split("partition ")[1].split(":")[0]) for w in answer.get("warnings", []) if "partition " in w}
    check(status == 200 and 0 < len(answer["data"]["result"]) < 40, f"half is there: {status} {str(answer)[:300]}")
    check(named == lost, f"missing are {lost}, named are {named}: {answer['warnings']}")
    status, answer = ask(True)
    check(status == 503 and any(f"partition {p}" in answer["error"] for p in lost), f"strict: {status} {answer}")


def test_cell_two_of_one_name_are_told_and_a_removed_one_says_so(world):
    cell = Cell(world)
    cell.settled(["ingestor-0", "ingestor-1"])
    twin = cell.add_ingestor(2, disk="twin", name="ingestor-0-twin")
    twin.kill()
    del cell.ingestors[2]
    twin = cell.service("ingestor", "twin", "--ingestor.name", "ingestor-0", "--data-dir", world.path("twin"),
                        "--store.dir", world.path("store"))
    def said():
        status, _, body = http(f"{cell.url('twin')}/-/ready")
        return status == 503 and b"another ingestor runs under the name ingestor-0" in body
    eventually("the twin is told", said, 30)
    cell.settled(["ingestor-0", "ingestor-1"])
    twin.kill()
    cell.wish("nodes", action="remove", name="ingestor-0")
    cell.settled(["ingestor-1"])
    status, _, body = http(f"{cell.url('ingestor-0')}/-/ready")
    check(status == 503 and b"was removed from the cell" in body, f"{status} {body!r}")
    cell.wish("nodes", action="register", name="ingestor-0")
    cell.settled(["ingestor-0", "ingestor-1"])

    # Removed for good: its keys go once it was stopped, and neither its name nor its disk is known any more.
    def remove(wait, *more):
        return subprocess.run([os.path.join(koa.BIN, "koalemos"), "cluster", "remove", "ingestor-0", "--wait", wait,
                               "--config", world.path("cell.yaml"), *more], capture_output=True, text=True, timeout=90)
    names = lambda: [n["name"] for n in cell.ask("nodes")["nodes"]]
    out = remove("5s")
    check(out.returncode == 1 and "ingestor-0 is removed, and still runs: stop it" in out.stderr, f"{out}")
    eventually("a removed one that runs is told",
               lambda: "1 ingestors were removed and still run: stop them, or register them again"
               in cell.ask("health")["troubles"], 20)
    check("ingestor-0" in names(), f"{names()}")
    cell.ingestors[0].kill()
    out = remove("60s")
    check(out.returncode == 0 and out.stdout == "ingestor-0: it is removed, and its keys are deleted\n", f"{out}")
    eventually("nobody knows it", lambda: names() == ["ingestor-1"], 20)
    troubles = cell.ask("health")["troubles"]
    check(not any("gone" in t or "silent" in t or "removed" in t for t in troubles), f"{troubles}")
    cell.ingestors[0].start()                          # not by itself
    def told():
        status, _, body = http(f"{cell.url('ingestor-0')}/-/ready")
        return status == 503 and b"was removed from the cell" in body
    eventually("it is told that it was removed", told, 30)
    out = remove("5s", "--undo")
    check(out.returncode == 0, f"{out}")
    cell.settled(["ingestor-0", "ingestor-1"])


def test_cell_with_fewer_members_than_replicas_or_a_zone_without_any_works_and_says_so(world):
    cell = Cell(world, ingestors=1)
    cell.settled(["ingestor-0"])
    troubles = lambda: cell.ask("health")["troubles"]
    fewer = "8 partitions have fewer live members than the replication factor"
    eventually("fewer members than replicas are told", lambda: fewer in troubles(), 20)
    writers = writers_of(cell)
    time.sleep(0.5)
    cell.add_ingestor(2, zone="a")                     # nobody is in another zone
    cell.ready()
    cell.settled(["ingestor-0", "ingestor-2"])
    eventually("members in one zone are told", lambda: troubles() == ["8 partitions have two members in one zone"], 20)
    cell.add_ingestor(3, zone="b")
    cell.ready()
    eventually("zone b has one of each", lambda: troubles() == [] and
               all({m["zone"] for m in p["members"]} == {"a", "b"} for p in cell.shards()), 60)
    print(done(cell, writers), "samples verified")


def test_nats_that_refuses_who_connects_is_named_and_nothing_is_taken(world):
    port = koa.free_port()
    with open(world.path("nats.conf"), "w") as f:
        f.write(f"host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: \"{world.path('nats')}\" }}\n"
                "authorization { user: koa, password: secret }\n")
    world.run("nats", koa.nats_server(), "-c", world.path("nats.conf"))
    eventually("NATS listens", lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, 20)

    def doorman(name, who, at):
        return world.run(name, os.path.join(koa.BIN, "doorman"), "--listen", f"127.0.0.1:{at}", "--cell", "e2e",
                         "--nats.url", f"nats://{who}127.0.0.1:{port}", "--log.replicas", "1",
                         "--placement.static", "ingestor-0=0-15")
    for name, who in (("stranger", ""), ("impostor", "koa:wrong@")):
        p = doorman(name, who, koa.free_port())
        check(p.ended() == 1, f"{name}: {p.words()}")
        words = p.words()
        check("refuses this process: Authorization failed: put its credentials right" in words, f"{name}: {words}")
        check("wrong" not in words and "secret" not in words, f"{name}: {words}")
    at = koa.free_port()
    doorman("known", "koa:secret@", at)
    eventually("who is known is served", lambda: http(f"http://127.0.0.1:{at}/-/ready")[0] == 200, 20)


def test_nats_that_is_not_there_or_says_nothing_is_named_and_is_not_waited_for_for_ever(world):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nowhere, silent_port = koa.free_port(), silent.getsockname()[1]
        for port, words in ((nowhere, f"127.0.0.1:{nowhere} is out of reach: is it running, and is nats.url right?"),
                            (silent_port, f"127.0.0.1:{silent_port} does not answer: is a nats-server there that is well")):
            for verb in (["status"], ["status", "--wait=1s"], ["split"], ["remove", "x", "--wait", "1s"]):
                out = subprocess.run([os.path.join(koa.BIN, "koalemos"), "cluster", *verb, "--nats.url", f"nats://a:secret@127.0.0.1:{port}"],
                                     capture_output=True, text=True, timeout=60)
                check(out.returncode == 1 and words in out.stderr and "secret" not in out.stderr, f"{verb}: {out}")
        p = world.run("doorman", os.path.join(koa.BIN, "doorman"), "--listen", f"127.0.0.1:{koa.free_port()}",
                      "--nats.url", f"nats://127.0.0.1:{silent_port}")
        check(p.ended() == 1 and "does not answer" in p.words() and "credentials" not in p.words(), p.words())


def test_cell_rolling_restart_of_all_is_not_noticed(world):
    cell = Cell(world)
    cell.settled(["ingestor-0", "ingestor-1"])
    writers = writers_of(cell)
    for p in (*cell.ingestors.values(), *cell.doormen, cell.querier):
        begin = time.monotonic()
        check(p.stop() == 0, f"{p.name} did not end well")
        if p in cell.ingestors.values():
            other = next(q.name for q in cell.ingestors.values() if q is not p)
            cell.owned_by(other)
            print(f"{p.name} was followed after {time.monotonic() - begin:.1f} s")
        p.start()
        cell.ready()
        cell.settled(["ingestor-0", "ingestor-1"])
    print(done(cell, writers), "samples verified")


def test_cell_twice_the_partitions_under_load_lose_and_double_nothing(world):
    """Room first, by a rolling restart; then the split, while values are written again over old ones."""
    cell = Cell(world, "--placement.spread_delay=2s", partitions=4)
    two = ["ingestor-0", "ingestor-1"]
    cell.settled(two)
    writers = writers_of(cell)
    now = int(time.time() * 1000)
    names = [f"kept_{i}" for i in range(40)]

    def write(value, at):
        eventually("a push is taken", lambda: koa.push(cell.push, [({"__name__": n}, [(at, value)]) for n in names])[0] == 204, 20)
    write(1.0, now - 600_000)
    cell.flush_all()                                   # the older layout's, in filesets, and
    write(2.0, now - 500_000)                          # live
    status, _, body = http(f"{cell.push}/api/v1/koalemos/split", b"", method="POST")
    check(status == 409 and b"set it to 8 for every service" in body, f"without room: {status} {body!r}")
    cell.configure(8)
    for p in (*cell.ingestors.values(), *cell.doormen, cell.querier):
        check(p.stop() == 0, f"{p.name} did not end well")
        p.start()
        cell.ready()
        cell.settled(two)
    check(len(cell.shards()) == 4, "room alone splits nothing")
    cell.wish("split", partitions=8)
    eventually("eight partitions", lambda: len(cell.shards()) == 8)
    cell.settled(two)
    splits = cell.ask("placement")["splits"]
    check([s["partitionCount"] for s in splits] == [8], f"{splits}")
    eventually("the split has begun", lambda: time.time() > splits[0]["validFrom"] + 0.5, 10)
    write(3.0, now - 500_000)                          # the newer layout's value for one time
    write(4.0, now - 400_000)
    # Of 40 metrics about half move; new values of those are in the new partitions.
    asked = {n: {p for s in api(cell.query, "query_explain", query=n)["selectors"] for p in s["partitions"]} for n in names}
    check(all(len(p) <= 2 and len({x % 4 for x in p}) == 1 for p in asked.values()), f"{asked}")
    check(any(len(p) == 2 for p in asked.values()), f"no metric moved: {asked}")
    for when in ("live", "flushed"):
        for age, value in ((600, 1.0), (500, 3.0), (400, 4.0)):
            got = koa.instant(cell.query, '{__name__=~"kept_.*"}', (now - age * 1000) / 1000)
            check(len(got) == 40 and set(got.values()) == {value}, f"{when}, {age} s before: {got}")
            got = koa.instant(cell.query, f"count_over_time(kept_7[1s])", (now - age * 1000) / 1000)
            check(list(got.values()) == [1.0], f"{when}: {got}")
        cell.flush_all()
    for p in (cell.ingestors[0], cell.doormen[0]):
        p.kill()
        p.start()
    cell.ready()
    cell.settled(two)
    out = subprocess.run([os.path.join(koa.BIN, "koalemos"), "cluster", "split", "--config", world.path("cell.yaml")],
                         capture_output=True, text=True, timeout=60)
    check(out.returncode == 1 and "set it to 16 for every service" in out.stderr, f"{out}")
    print(done(cell, writers), "samples verified")
    cell.flush_all()
    check(verify(cell.query, writers) > 0, "after the flush")


def test_cell_a_stream_deleted_under_us_loses_nothing_applied_and_what_may_be_lost_is_named(world):
    cell = Cell(world)
    cell.settled(["ingestor-0", "ingestor-1"])
    writers = writers_of(cell, 1)
    time.sleep(1)
    done(cell, writers)                                # all that was acked is applied by now
    partition = cell.ask("leader?metric=checked_0")["partitions"][0]["partition"]
    nats_request(cell.nats_ports[0], f"$JS.API.STREAM.DELETE.KOA_L_e2e_{partition:04d}")
    again = Writer(cell.push, 0, writers[0].begin_ms, series=8)
    again.acked = writers[0].acked
    again.start()
    def taken():
        return again.acked > writers[0].acked + 20
    eventually("intake goes on in the new incarnation", taken, 60)
    again.stopping = True
    again.join(30)
    check(again.refused > 0, "nothing was refused while the log was another one")
    eventually("all is there", lambda: verify(cell.query, [again]) > 0, 30)
    cell.settled(["ingestor-0", "ingestor-1"])
    cell.flush_all(10)                                 # what is taken and answered may be over before the catalogue is told
    check(verify(cell.query, [again]) > 0, "after the flush")
    status, _, body = http(f"{cell.query}/api/v1/query?query=count_over_time(checked_0[4h])")
    check(status == 200 and b"are lost if there were any: the log was made anew" in body, f"{status} {body[:600]!r}")
    anew = [metric(cell.url(p.name), "koalemos_ingestor_logs_made_anew_total") for p in cell.ingestors.values()]
    check(max(anew) >= 1, f"logs made anew: {anew}")


def stopped(cell, name):
    status, _, body = http(f"{cell.url(name)}/api/v1/koalemos/log")
    check(status == 200, f"{status} {body[:300]!r}")
    return [p for p in json.loads(body)["data"]["partitions"] if p["state"] == "stopped"]


def test_cell_a_record_that_cannot_be_read_stops_its_partition_until_an_operator_has_it_skipped(world):
    cell = Cell(world)
    cell.settled(["ingestor-0", "ingestor-1"])
    writers = writers_of(cell, 1)
    time.sleep(0.5)
    done(cell, writers)
    partition = cell.ask("leader?metric=checked_0")["partitions"][0]["partition"]
    ack = nats_request(cell.nats_ports[0], f"koa.e2e.log.{partition:04d}", b"this is no record")
    both = [p.name for p in cell.ingestors.values()]
    eventually("both stop there", lambda: all(stopped(cell, name) for name in both), 20)
    for name in both:
        (p,) = stopped(cell, name)
        check(p["partition"] == partition and p["record"]["seq"] == ack["seq"] and p["applied"] == ack["seq"] - 1
              and bytes.fromhex(p["record"]["head"]) == b"this is no record" and "record" in p["words"], f"{p}")
        check(http(f"{cell.url(name)}/-/ready")[0] == 503, f"{name} is ready")
        check(metric(cell.url(name), "koalemos_ingestor_alarms_total") == 1, "no alarm")
    status, _, body = http(f"{cell.query}/api/v1/query?query=count(last_over_time(checked_0[4h]))")
    check(status == 503 or b"warnings" in body, f"an answer without it says nothing: {status} {body[:300]!r}")
    where = f"{cell.url(both[0])}/api/v1/koalemos/log"
    for bad in ("", f"?partition={partition}&skip={ack['seq'] + 1}", "?partition=99&skip=1"):
        check(http(where + bad, b"", method="POST")[0] == 400, f"{bad!r} was taken")
    status, _, body = http(f"{where}?partition={partition}&skip={ack['seq']}", b"", method="POST")
    check(status == 200, f"{status} {body!r}")
    cell.ready()
    cell.settled(both)
    check(verify(cell.query, writers) > 0, "after the skip")
    for p in cell.ingestors.values():                  # and everybody remembers it
        p.kill()
        p.start()
    cell.ready()
    cell.settled(both)
    again = Writer(cell.push, 0, writers[0].begin_ms, series=8)
    again.acked = writers[0].acked
    again.start()
    time.sleep(0.5)
    print(done(cell, [again]), "samples verified")


def say(cell, value, **params):
    """One sample of `told`; status, headers in small letters, and body."""
    text = f"told {value} {int(time.time() * 1000)}\n".encode()
    status, headers, body = http(f"{cell.push}/api/v1/import/prometheus?" + "&".join(f"{k}={v}" for k, v in params.items()), text,
                                 method="POST")
    return status, {k.lower(): v for k, v in dict(headers).items()}, body


def heard(cell, token=None, params=""):
    return http(f"{cell.query}/api/v1/query?query=told{params}", headers={"X-Koalemos-After": token} if token else None)


def test_cell_a_write_may_want_every_replica_and_a_read_what_was_written_before(world):
    cell = Cell(world)
    both = ["ingestor-0", "ingestor-1"]
    cell.settled(both)
    for n, wanted in enumerate(("one", "quorum", "all")):
        status, headers, body = say(cell, n, consistency=wanted)
        check(status == 204 and headers["x-koalemos-consistency"] == wanted, f"{wanted}: {status} {headers} {body[:300]!r}")
    check(say(cell, 0, consistency="some")[0] == 400, "consistency=some was taken")
    for n in range(20):                                # at once, whoever answers
        status, headers, _ = say(cell, 100 + n)
        status, _, body = heard(cell, headers["x-koalemos-token"])
        check(status == 200 and f'"{100 + n}"'.encode() in body, f"{n}: {status} {body[:300]!r}")
    status, _, body = heard(cell, params="&consistency=strong")
    check(status == 200 and b'"119"' in body, f"strong: {status} {body[:300]!r}")
    check(heard(cell, params="&consistency=weak")[0] == 400 and heard(cell, "1;2")[0] == 400, "nonsense was taken")
    partition, seq = headers["x-koalemos-token"].split(":")
    status, _, body = heard(cell, f"{partition}:{int(seq) + 1000}", "&timeout=3s")
    check(status == 503 or b"warnings" in body, f"what is not there yet was answered: {status} {body[:300]!r}")
    (p,) = cell.ask("leader?metric=told")["partitions"]
    standby = p["members"][1]["node"]
    sleeper = cell.ingestors[both.index(standby)]
    sleeper.child.send_signal(signal.SIGSTOP)
    try:
        status, _, body = say(cell, 7, consistency="all")
        check(status == 503 and standby.encode() in body, f"{status} {body[:300]!r}")
        check(say(cell, 8, consistency="quorum")[0] == 204, "quorum waits for a replica")
    finally:
        sleeper.child.send_signal(signal.SIGCONT)
    cell.ready()
    cell.settled(both)
    status, _, body = say(cell, 9, consistency="all")
    check(status == 204, f"{status} {body[:300]!r}")


def kill_at_random(cell, rounds, seed, writers=None, besides={}):
    """Any process, `rounds` times; of several nats-servers one at a time. `besides`: what happens when so many were killed."""
    draw = random.Random(seed)
    writers = writers or writers_of(cell)
    longest = {}
    for n in range(rounds):
        time.sleep(draw.uniform(0.2, 1.0))
        if n in besides:
            besides[n]()
        if n % 3 == 0:
            threading.Thread(target=quiet_flush, args=(cell,), daemon=True).start()
        p = draw.choice(cell.processes)
        if p in cell.nats and len(cell.nats) > 1:
            cell.nats_whole()
        for w in writers:
            w.anew()
        p.kill()
        time.sleep(draw.choice([0, 0, SILENT_S * 1.5]))
        p.start()
        cell.ready()
        eventually(f"writes after {p.name} was killed", lambda: all(w.since_s is None for w in writers), 90, 0.05)
        kind = p.name.split("-")[0]
        longest.setdefault(kind, []).append(max(w.longest_s for w in writers))
    for kind, all_s in sorted(longest.items()):
        print(f"       {kind} killed {len(all_s)} times: without an ack at most {max(all_s):.1f} s, on average "
              f"{sum(all_s) / len(all_s):.1f} s", flush=True)
    cell.settled([p.name for p in cell.ingestors.values() if p.name in cell.wanted], 90)
    print(rounds, "kills,", done(cell, writers), "samples verified")
    cell.flush_all()
    check(verify(cell.query, writers) > 0, "after the flush")


def quiet_flush(cell):
    try:
        cell.flush_all()
    except (OSError, koa.Failed):
        pass                                           # a process was killed under it


def test_cell_kill_9_of_any_process_at_random_loses_and_doubles_nothing(world):
    kill_at_random(Cell(world, doormen=1), int(os.environ.get("KOA_CELL_KILLS", 6)), seed=11)


def answer_holds(cell, writers, what, seconds=8):
    """An answer is complete, or says what it lacks. How it was."""
    complete = "complete"
    if not cell.querier.alive():
        return "none"
    for w in writers:
        acked = w.acked
        status, _, body = http(f"{cell.query}/api/v1/query?consistency=strong&timeout={seconds}s&query=count_over_time("
                               f"checked_{w.writer}[4h])", timeout=seconds + 30)
        check(status in (200, 503), f"{what}: {status} {body[:300]!r}")
        if status == 503 or b"warnings" in body:
            answer = json.loads(body)
            complete = f"with warnings ({(answer.get('warnings') or [answer['error']])[0][:120]})"
            continue
        counts = [int(s["value"][1]) for s in json.loads(body)["data"]["result"]]
        check(len(counts) == w.series and min(counts) >= acked, f"{what}: no warning, and {acked} were acked: {counts}")
    return complete


def under(cell, writers, what, fault, undo, lasts=1.0):
    """Does it, and undoes it once writes are back; the longest that a writer went without an ack. The next fault comes when
    all is as it was before."""
    for w in writers:
        w.anew()
    begin = time.monotonic()
    fault()
    try:
        first = answer_holds(cell, writers, what)
        eventually(f"writes, {what}", lambda: all(w.since_s is None for w in writers), 90, 0.05)
        time.sleep(lasts)
        longest = max(w.longest_s for w in writers)
        later = answer_holds(cell, writers, what)
    finally:
        for w in writers:
            w.anew()
        undo()
    cell.ready()
    cell.settled([p.name for p in cell.ingestors.values()], 90)
    if len(cell.nats) > 1:
        cell.nats_whole()
    print(f"       {what}: {longest:.1f} s without an ack, answers {first}, then {later}; when it came back "
          f"{max(w.longest_s for w in writers):.1f} s without an ack; all as before after {time.monotonic() - begin:.1f} s", flush=True)
    return longest


def under_kill(cell, writers, p):
    return under(cell, writers, f"{p.name} killed", p.kill, p.start)


def under_sleep(cell, writers, p):
    """Longer than it may keep its leases."""
    return under(cell, writers, f"{p.name} asleep", lambda: p.child.send_signal(signal.SIGSTOP),
                 lambda: p.child.send_signal(signal.SIGCONT), SILENT_S * 1.5)


def under_cut(cell, writers, i, what=""):
    server = cell.nats[i]
    return under(cell, writers, f"{server.name}{what} cut off", lambda: cell.net.cut(i, server), lambda: cell.net.mend(i, server))


def three(world, net=None, flags=(), **kw):
    cell = Cell(world, *flags, servers=3, net=net, **kw)
    cell.settled(["ingestor-0", "ingestor-1"], 120)
    cell.nats_whole()
    return cell


def test_cell_on_three_nats_servers_goes_on_without_one_and_without_an_owner(world):
    """The short one: the server that leads the keys falls, an owner falls, a server is cut off. Elections take their time."""
    cell = three(world, net=apart(world, 3))
    old = koa.NATS != "nats-server-newer"
    for verb in ("init", "status"):
        out = subprocess.run([os.path.join(koa.BIN, "koalemos"), "cluster", verb, "--config", world.path("cell.yaml")],
                             capture_output=True, text=True, timeout=120)
        warned = [line for line in out.stderr.splitlines() if "warning: the nats-server at " in line and " is 2.9." in line]
        check(out.returncode == 0 and len(warned) == (3 if old else 0) and (old or "warning" not in out.stderr), f"{verb}: {out}")
    writers = writers_of(cell)
    eventually("they write", lambda: all(w.acked > 0 for w in writers))
    leader = cell.replicas_of("KV_KOA_e2e")[0]
    under_kill(cell, writers, cell.nats[leader])
    under_kill(cell, writers, cell.ingestors[0])
    under_cut(cell, writers, (leader + 1) % 3)
    print(done(cell, writers, 60), "samples verified")


def long_cell_on_three_nats_servers_lives_through_the_loss_of_each(world):
    """Only with KOA_LONG: two minutes, most of it elections."""
    cell = three(world)
    writers = writers_of(cell)
    eventually("they write", lambda: all(w.acked > 0 for w in writers))
    for p in (*cell.nats, *cell.ingestors.values(), cell.querier):
        under_kill(cell, writers, p)
    for p in cell.ingestors.values():
        under_sleep(cell, writers, p)
    print(done(cell, writers, 60), "samples verified")
