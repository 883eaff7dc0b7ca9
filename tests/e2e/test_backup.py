"""A backup beside servers that run, into a folder or a bucket; and back from it."""
import os
import re
import shutil
import threading
import time

import koa
from koa import check
from test_import import koalemos
from test_s3 import answers, begin_ms, load, same
from test_sealed import key, plain_in, push


class Pusher:
    """Pushes while something else is done."""

    def __init__(self, base):
        self.base, self.stop, self.acked = base, threading.Event(), 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        n = 0
        while not self.stop.is_set():
            now = int(time.time() * 1000)
            status, _ = koa.push(self.base, [({"__name__": "under_load", "i": str(i)}, [(now + k, n + k) for k in range(20)])
                                             for i in range(50)])
            self.acked += status == 204
            n += 1

    def end(self):
        self.stop.set()
        self.thread.join()
        check(self.acked > 3, f"only {self.acked} pushes were taken")


def bytes_of(words):
    return int(re.search(r"(\d+) bytes copied", words).group(1))


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


def test_a_backup_under_load_is_restored_and_every_answer_is_as_before(world):
    ours = koa.Serve(world)
    begin, end = begin_ms(6), begin_ms(0)
    load(ours.push, begin, end)
    before = answers(ours.query, begin, end)
    flags = ["--data-dir", world.path("data")]
    pusher = Pusher(ours.push)
    time.sleep(1)
    words = koalemos(world, "backup", "--to", world.path("backup"), "--flush", ours.flush, *flags)
    first = bytes_of(words)
    check(first > 1000 and "no server was asked" not in words, words)
    taken = koa.one(ours.query, "sum(count_over_time(under_load[1h]))")
    words = koalemos(world, "backup", "--to", world.path("backup"), *flags)
    check("no server was asked" in words, words)
    words = koalemos(world, "backup", "--to", world.path("backup"), "--flush", ours.flush, *flags)
    sets, new = map(int, re.search(r"(\d+) filesets, (\d+) of them new", words).groups())
    check(0 < new < sets, f"all of it again: {words}")
    pusher.end()
    total = koa.one(ours.query, "sum(count_over_time(under_load[1h]))")
    check(ours.process.stop() == 0, "stop")
    koalemos(world, "verify", world.path("backup"))
    shutil.move(world.path("data"), world.path("lost"))

    words = koalemos(world, "restore", "--from", world.path("backup"), "--list", *flags)
    made = re.findall(r"^(\d{13}) ", words, re.M)
    check(len(made) == 3, words)
    for at, least in ((made[0], 1), (None, taken)):
        which = ["--at", at] if at else []
        words = koalemos(world, "restore", "--from", world.path("backup"), *which, *flags)
        check("is restored" in words, words)
        again = koa.Serve(world, name=f"again-{at}")
        same(before, answers(again.query, begin, end), "after the restore")
        got = koa.one(again.query, "sum(count_over_time(under_load[1h]))")
        check(least <= got <= total, f"{got} of {total} samples, {least} were there when the first was made")
        check("ALARM" not in again.process.words(), again.process.words())
        # It goes on as any other: pushes, flushes, a start.
        status, words = koa.push(again.push, [({"__name__": "later"}, [(int(time.time() * 1000), 1.0)])])
        check(status == 204, words)
        again.flush_all()
        again.process.stop()
        again.process.start()
        again.ready()
        same(before, answers(again.query, begin, end), "after a start")
        check(koa.one(again.query, "count_over_time(later[10m])") == 1, "what came after the restore")
        again.process.stop()
        koalemos(world, "verify", world.path("data"))
        words = koalemos(world, "restore", "--from", world.path("backup"), *flags, code=1)
        check("holds data already" in words, words)
        shutil.rmtree(world.path("data"))


def test_a_backup_that_was_damaged_swapped_or_is_anothers_is_refused_with_words(world):
    ours = koa.Serve(world)
    begin, end = begin_ms(6), begin_ms(0)
    load(ours.push, begin, end)
    words = koalemos(world, "backup", "--to", world.path("backup"), "--flush", ours.flush, "--data-dir", world.path("data"))
    ours.process.stop()

    def restore(*more, code=1, data="new"):
        shutil.rmtree(world.path(data), ignore_errors=True)
        return koalemos(world, "restore", "--from", world.path("backup"), "--data-dir", world.path(data), *more, code=code)
    sets = sorted(os.path.dirname(os.path.join(d, f)) for d, _, fs in os.walk(world.path("backup")) for f in fs if f == "checkpoint")
    at = [n for n in os.listdir(world.path("backup", "backup"))][0]
    for part in ("data", "meta", "checkpoint"):
        path = os.path.join(sets[0], part)
        flip(path, os.path.getsize(path) // 2)
        words = restore()
        check(os.path.relpath(sets[0], world.path("backup")) in words, f"{part}: {words}")
        flip(path, os.path.getsize(path) // 2)
    # Of two filesets of one partition each in the other's place, whole.
    pairs = [(a, b) for a in sets for b in sets if a < b and os.path.dirname(a) == os.path.dirname(b)]
    a, b = pairs[0] if pairs else sets[:2]
    os.rename(a, a + ".x"), os.rename(b, a), os.rename(a + ".x", b)
    words = restore()
    check("fileset" in words, words)
    os.rename(a, a + ".x"), os.rename(b, a), os.rename(a + ".x", b)
    # A list that was changed, or cut; a manifest that is gone.
    path = world.path("backup", "backup", at, "list")
    whole = open(path, "rb").read()
    for bad in (whole[:-5], whole[:100], b"", whole.replace(b"fileset", b"filesex", 1), whole + b"x\n"):
        with open(path, "wb") as f:
            f.write(bad)
        words = restore()
        check("list of the backup" in words, words)
    with open(path, "wb") as f:
        f.write(whole)
    manifest = next(n for n in os.listdir(world.path("backup", "backup", at)) if n != "list")
    flip(world.path("backup", "backup", at, manifest), 20)
    check("not the one that was backed up" in restore(), "a changed manifest")
    flip(world.path("backup", "backup", at, manifest), 20)
    # Another cell's.
    check("--another-cell" in restore("--cell", "elsewhere"), "another cell's backup")
    restore("--cell", "elsewhere", "--another-cell", code=0)
    words = koalemos(world, "backup", "--to", world.path("backup"), "--data-dir", world.path("new"), "--cell", "elsewhere", code=1)
    check("cell" in words, words)
    check("no backup" in koalemos(world, "restore", "--from", world.path("data", "store"), "--data-dir", world.path("x"), code=1), "")
    check("nowhere" in koalemos(world, "restore", "--from", world.path("nowhere"), "--data-dir", world.path("x"), code=1), "")
    words = koalemos(world, "backup", "--to", world.path("data", "..", "data", "store"), "--data-dir", world.path("data"), code=1)
    check("itself" in words, words)
    # A corrupt fileset of the store is named and left out; the rest is there.
    stored = sorted(os.path.join(d, f) for d, _, fs in os.walk(world.path("data", "store")) for f in fs if f == "data")
    flip(stored[0], os.path.getsize(stored[0]) // 2)
    words = koalemos(world, "backup", "--to", world.path("backup-2"), "--data-dir", world.path("data"), code=1)
    check("LEFT OUT: 1 corrupt" in words and os.path.relpath(os.path.dirname(stored[0]), world.path("data", "store")) in words, words)
    koalemos(world, "restore", "--from", world.path("backup-2"), "--data-dir", world.path("new-2"))
    # One that fails besides says so, and not that it is one.
    os.mkdir(world.path("backup-3"))
    with open(world.path("backup-3", "backup"), "w") as f:
        f.write("no folder")
    words = koalemos(world, "backup", "--to", world.path("backup-3"), "--data-dir", world.path("data"), code=1)
    check("LEFT OUT: 1 corrupt" in words and "koalemos backup: partition" in words and "copied and read back" not in words, words)


def test_a_backup_of_an_encrypted_store_is_encrypted_and_comes_back_with_the_key(world):
    flags = ["--store.encryption_key.file", key(world, "key")]
    ours = koa.Serve(world, *flags)
    begin, end = begin_ms(4), begin_ms(0)
    load(ours.push, begin, end)
    push(ours, "very-plain-marker", "another")         # tenant: labels are answered for whole filesets
    before = answers(ours.query, begin, end)
    words = koalemos(world, "backup", "--to", world.path("backup"), "--flush", ours.flush, "--data-dir", world.path("data"), *flags)
    check(bytes_of(words) > 1000, words)
    check(not plain_in(world.path("backup"), b"very-plain-marker", b"marker", b"koalemos backup", b"koalemos cell"),
          f"{plain_in(world.path('backup'), b'marker', b'koalemos backup', b'koalemos cell')}")
    ours.process.stop()
    for more in [], ["--store.encryption_key.file", key(world, "another")]:
        koalemos(world, "restore", "--from", world.path("backup"), "--data-dir", world.path("no"), *more, code=1)
    koalemos(world, "restore", "--from", world.path("backup"), "--data-dir", world.path("again"), *flags)
    check(not plain_in(world.path("again", "store"), b"very-plain-marker"), "restored in the clear")
    again = koa.Serve(world, *flags, data=world.path("again"), name="again")
    same(before, answers(again.query, begin, end), "after the restore")


def test_a_backup_of_a_cluster_is_restored_into_one_process(world):
    cell = koa.Cluster(world)
    begin, end = begin_ms(4), begin_ms(0)
    load(cell.push, begin, end)
    before = answers(cell.query, begin, end)
    words = koalemos(world, "backup", "--to", world.path("backup"), "--config", world.path("cluster.yaml"), "--store.dir",
                     world.path("store"), *(x for i in (0, 1) for x in ("--flush", cell.url(f"ingestor-{i}"))))
    check(bytes_of(words) > 1000 and "no server was asked" not in words, words)
    words = koalemos(world, "restore", "--from", world.path("backup"), "--data-dir", world.path("one"), code=1)
    check("of the cell \"e2e\"" in words, words)
    koalemos(world, "restore", "--from", world.path("backup"), "--data-dir", world.path("one"), "--another-cell")
    ours = koa.Serve(world, data=world.path("one"))
    same(before, answers(ours.query, begin, end), "after the restore")


def test_a_cell_on_s3_is_backed_up_into_a_bucket_and_restored_from_it(world):
    import koa_s3
    s3 = koa_s3.S3(world)
    ours = koa.Serve(world, *s3.flags())
    begin, end = begin_ms(4), begin_ms(0)
    load(ours.push, begin, end)
    before = answers(ours.query, begin, end)
    to = f"s3://{s3.bucket}/{s3.prefix}/saved"
    words = koalemos(world, "backup", "--to", to, "--flush", ours.flush, *s3.flags())
    check(bytes_of(words) > 1000, words)
    ours.process.stop()
    shutil.rmtree(world.path("data"))
    flags = s3.flags(url=f"s3://{s3.bucket}/{s3.prefix}/new")
    words = koalemos(world, "restore", "--from", to, "--data-dir", world.path("data"), *flags)
    again = koa.Serve(world, *flags, name="again")
    same(before, answers(again.query, begin, end), "after the restore")
