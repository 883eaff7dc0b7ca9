"""Folders that are encrypted: a canary that is pushed lies nowhere in them, keys are changed, and tools take them as they are."""
import os
import random
import struct
import time

import koa
from koa import check, eventually, instant
from test_backup import flip
from test_import import koalemos, small
from test_keys import tool
from test_sealed import plain_in

LABEL = b"canary-Zaphod-7f3a"
VALUES = [random.Random(7).uniform(1, 2) * 1e17 for _ in range(64)]


def keys(world, name, *ids):
    """A file of keys; the same id is the same key."""
    path = world.path(name)
    with open(path, "w") as f:
        for i in ids:
            f.write(random.Random(i).randbytes(32).hex() + "\n")
    os.chmod(path, 0o600)
    return path


def flag(path):
    return ["--encryption.keys.file", path]


def push_canary(ours, name="canary", count=64):
    """Values whose bits no codec can fold: where they are plain, they lie there as they are."""
    now = int(time.time() * 1000)
    series = [({"__name__": name, "bird": LABEL.decode()}, [(now - 1000 * (count - k), VALUES[k]) for k in range(count)])]
    status, words = koa.push(ours.push, series)
    check(status == 204, f"{status} {words}")
    return now / 1000


def told(ours, at):
    got = instant(ours.query, "canary", at=at)
    check(list(got.values()) == [VALUES[63]], f"{got}")
    return instant(ours.query, "sum_over_time(canary[5m])", at=at)


def found(folder):
    return sorted({(name, "label" if w == LABEL else "value") for name, w in
                   plain_in(folder, LABEL, *(struct.pack(order, v) for v in VALUES[:40] for order in ("<d", ">d")))})


MORE = ["--ingestor.local_retention", "1d", "--ingestor.snapshot_interval", "1s", "--ingestor.spill_least", "1"]


def lives(world, ours, data):
    """Pushed, snapshotted, killed, replayed, flushed, merged: what is found of the canary after each."""
    seen = set()
    at = push_canary(ours)
    before = told(ours, at)
    seen.update(found(data))
    eventually("a snapshot", lambda: any(n == "head" for _, _, names in os.walk(data) for n in names))
    seen.update(found(data))
    ours.process.kill()
    ours.process.start()
    ours.ready()
    check(told(ours, at) == before, "after kill -9")
    ours.flush_all()
    push_canary(ours, "canary_again")
    ours.flush_all()
    seen.update(found(data))
    check(told(ours, at) == before, "out of filesets")
    check(ours.process.stop() == 0, "stop")
    seen.update(found(data))
    return at, before, seen


def test_a_canary_lies_nowhere_in_an_encrypted_folder(world):
    plain = koa.Serve(world, *MORE, data=world.path("plain"), name="plain")
    _, _, seen = lives(world, plain, world.path("plain"))
    # So that what follows could fail at all:
    check({kind for _, kind in seen} == {"label", "value"} and {n for n, _ in seen} >= {"head", "meta", "postings"}, f"{seen}")

    ours = koa.Serve(world, *MORE, *flag(keys(world, "keys", 1)))
    at, before, seen = lives(world, ours, world.path("data"))
    check(not seen, f"{seen}")
    log, store, local = (sum(len(n) for _, _, n in os.walk(world.path("data", d))) for d in ("log", "store", "filesets"))
    check(log >= 2 and store >= 5 and local >= 9, f"{log} {store} {local}")
    ours.process.start()
    ours.ready()
    check(told(ours, at) == before, "after a stop")


def refused(world, name, words, *flags, data):
    p = koa.Serve(world, *flags, name=name, data=data, ready=False).process
    check(p.ended() != 0 and words in p.words(), f"{name}: {p.words()}")


def test_keys_are_changed_while_the_old_one_is_listed_and_then_for_good(world):
    data = world.path("data")
    old, both, new = keys(world, "old", 1), keys(world, "both", 2, 1), keys(world, "new", 2)
    ours = koa.Serve(world, *MORE, *flag(old))
    at = push_canary(ours)
    before = told(ours, at)
    ours.flush_all()
    check(ours.process.stop() == 0, "stop")
    refused(world, "none", "it is encrypted: encryption.keys.file", data=data)
    refused(world, "early", "not among those of encryption.keys", *flag(new), data=data)
    refused(world, "gone", "No such file", *flag(world.path("missing")), data=data)
    refused(world, "both-ways", "both set", *flag(old), "--encryption.keys.command", "true", data=data)

    # A command in place of the file, and the new key before the old one.
    ours = koa.Serve(world, *MORE, "--encryption.keys.command", f"cat {both}", name="both")
    check(told(ours, at) == before, "with both")
    push_canary(ours, "canary_again")
    ours.flush_all()
    words = tool("encrypt", data, "--list", *flag(both), status=1)
    check("/data\t" in words and " files are not encrypted by the first key" in words, words)
    check("nobody may use" in koalemos(world, "encrypt", data, *flag(both), code=1), "a folder that is in use")
    check(ours.process.stop() == 0, "stop")
    refused(world, "old-again", "not among those", *flag(old), data=data)
    words = tool("encrypt", data, *flag(both))
    check(" 0 could not be read" in words, words)
    check("0 of " in tool("encrypt", data, "--list", *flag(new)), "none is left")
    ours = koa.Serve(world, *MORE, *flag(new), name="new")
    check(told(ours, at) == before, "with the new one alone")
    check(ours.process.stop() == 0, "stop")

    # And back, and forth.
    tool("encrypt", data, "--plain", *flag(new))
    check(found(data), "plain again")
    refused(world, "plain-with-key", "koalemos encrypt", *flag(new), data=data)
    ours = koa.Serve(world, *MORE, name="plain")
    check(told(ours, at) == before, "plain")
    check(ours.process.stop() == 0, "stop")
    tool("encrypt", data, *flag(old))
    check(not found(data), f"{found(data)}")
    ours = koa.Serve(world, *MORE, *flag(old), name="again")
    check(told(ours, at) == before, "encrypted again")


def test_what_was_changed_on_disk_is_named_and_never_served(world):
    ours = koa.Serve(world, *flag(keys(world, "keys", 1)))
    at = push_canary(ours)
    told(ours, at)
    ours.flush_all()
    check(ours.process.stop() == 0, "stop")
    flip(max((os.path.join(d, n) for d, _, names in os.walk(world.path("data", "store")) for n in names if n == "data"), key=os.path.getsize), 140)
    words = koalemos(world, "verify", world.path("data"), "--encryption.keys.file", world.path("keys"), code=1)
    check("does not open at byte 0" in words, words)
    ours.process.start()
    ours.ready()
    status, _, body = koa.http(f"{ours.query}/api/v1/query?query=canary&time={at:.3f}")
    check(b"warnings" in body or status != 200, f"{status} {body[:300]}")
    push_canary(ours)
    push_canary(ours)                                  # after it the one before is known to be durable
    ours.process.kill()
    log = max((os.path.join(d, n) for d, _, names in os.walk(world.path("data", "log")) for n in names if n.endswith(".seg")))
    flip(log, 200)
    ours.process.start()
    check(ours.process.ended() != 0 and ".seg does not open at byte" in ours.process.words(), ours.process.words()[-600:])


def test_tools_take_encrypted_folders_as_they_take_plain_ones(world):
    data, first = world.path("data"), keys(world, "keys", 1)
    k = flag(first)
    ours = koa.Serve(world, *k)
    at = push_canary(ours)
    before = told(ours, at)
    ours.flush_all()
    koalemos(world, "backup", "--to", world.path("backup"), "--flush", ours.flush, "--data-dir", data, *k)
    check(not found(world.path("backup")), f"{found(world.path('backup'))}")
    out = koalemos(world, "export", "--url", ours.query, "--match", "canary")
    check(LABEL.decode() in out, out[:300])
    check(ours.process.stop() == 0, "stop")

    check("1 filesets and 1 manifests are well" in koalemos(world, "verify", data, *k), "verify")
    words = koalemos(world, "verify", data, code=2)
    check("it is encrypted with the key" in words, words)
    check("64 samples" in koalemos(world, "inspect", os.path.join(data, "store"), *k), "inspect")
    koalemos(world, "catalog", "rebuild", "--data-dir", data, code=1)
    koalemos(world, "catalog", "rebuild", "--data-dir", data, *k)

    words = koalemos(world, "restore", "--from", world.path("backup"), "--data-dir", world.path("no"), code=1)
    check("it is encrypted with the key" in words, words)
    koalemos(world, "restore", "--from", world.path("backup"), "--data-dir", world.path("restored"), *k)
    check(not found(world.path("restored")), "restored in the clear")
    again = koa.Serve(world, *k, data=world.path("restored"), name="again")
    check(told(again, at) == before, "after the restore")
    check(again.process.stop() == 0, "stop")
    blocks, _ = small(world)
    koalemos(world, "import", "--prometheus", blocks, "--data-dir", world.path("restored"), *k)
    koalemos(world, "verify", world.path("restored"), *k)

    # A backup that lies open goes into a cell that is encrypted.
    plain = koa.Serve(world, data=world.path("plain"), name="plain")
    at = push_canary(plain)
    koalemos(world, "backup", "--to", world.path("open"), "--flush", plain.flush, "--data-dir", world.path("plain"))
    check(found(world.path("open")), "a backup of what is plain is plain")
    koalemos(world, "restore", "--from", world.path("open"), "--data-dir", world.path("closed"), *k)
    check(not found(world.path("closed")), "restored in the clear")
    closed = koa.Serve(world, *k, data=world.path("closed"), name="closed")
    told(closed, at)


def test_a_cluster_keeps_a_canary_out_of_every_folder_of_its_own(world):
    cache = world.path("cache")
    ours = koa.Cluster(world, *flag(keys(world, "keys", 1)), "--ingestor.snapshot_interval", "1s", "--ingestor.spill_least", "1",
                       "--store.cache.dir", cache)
    at = push_canary(ours)
    eventually("answered", lambda: len(instant(ours.query, "canary", at=at)) == 1)
    before = told(ours, at)
    eventually("a snapshot", lambda: any(n == "head" for i in (0, 1) for _, _, names in os.walk(world.path(f"ingestor-{i}")) for n in names))
    ours.flush_all()
    eventually("out of the store", lambda: told(ours, at) == before)
    eventually("something in the cache", lambda: sum(e.stat().st_size for e in os.scandir(cache) if e.is_file()) > 200)
    for folder in (cache, world.path("store"), world.path("ingestor-0"), world.path("ingestor-1")):
        check(os.path.isdir(folder) and not found(folder), f"{folder}: {found(folder)}")
