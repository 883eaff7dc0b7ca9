"""An object storage that is encrypted: nothing plain lies in it, and everything is answered from it."""
import os
import time

import koa
from koa import check, eventually, instant
from test_keys import tool


def key(world, name):
    path = world.path(name)
    with open(path, "w") as f:
        f.write(os.urandom(32).hex() + "\n")
    os.chmod(path, 0o600)
    return path


def push(ours, marker, tenant=None):
    now = int(time.time() * 1000)
    series = [({"__name__": "m", "n": str(n), "marker": marker}, [(now - 1000 * k, float(n + k)) for k in range(100, 0, -1)]) for n in range(300)]
    status, words = koa.push(ours.push, series, tenant)
    check(status == 204, f"{status} {words}")


def answers(ours):
    return instant(ours.query, "sum by (n) (sum_over_time(m[10m]))", at=answers.at)


def plain_in(folder, *words):
    found = []
    for at, _, names in os.walk(folder):
        for name in names:
            try:
                with open(os.path.join(at, name), "rb") as f:
                    data = f.read()
            except FileNotFoundError:                  # a server may run there
                continue
            found += [(name, w) for w in words if w in data]
    return found


def test_filesets_lie_encrypted_and_are_answered_as_if_they_did_not(world):
    first, second = key(world, "first"), key(world, "second")
    store = world.path("objects")
    flags = ["--store.dir", store, "--compaction.files", "2"]
    serve = koa.Serve(world, *flags, "--store.encryption_key.file", first)
    push(serve, "very-plain-marker")
    answers.at = time.time()
    before = answers(serve)
    check(len(before) == 300, f"{len(before)}")
    serve.flush_all()
    push(serve, "very-plain-marker", tenant="other")
    serve.flush_all()
    check(answers(serve) == before, "out of the store")
    files = sum(len(names) for _, _, names in os.walk(store))
    check(files >= 5, f"{files} objects")
    check(not plain_in(store, b"very-plain-marker", b"marker", b"koalemos cell"), f"{plain_in(store, b'very-plain-marker', b'marker')}")
    check(serve.process.stop() == 0, "stop")
    tool("rekey", second, "--store.dir", store, "--store.encryption_key.file", second, status=1)
    check("second" in tool("rekey", second, "--store.dir", store, "--store.encryption_key.file", first), "rekey")

    # With the old key, and without one, it does not begin, and says why.
    for name, more, words in (("old", ["--store.encryption_key.file", first], "encrypted with the key"), ("without", [], "store.encryption_key.file")):
        p = koa.Serve(world, *flags, *more, name=name, data=world.path("data"), ready=False).process
        check(p.ended() != 0 and words in p.words(), f"{name}: {p.words()}")
    p = koa.Serve(world, *flags, "--store.encryption_key.command", "exit 7", name="failing", data=world.path("data"), ready=False).process
    check(p.ended() != 0 and "status 7" in p.words(), p.words())
    again = koa.Serve(world, *flags, "--store.encryption_key.command", f"cat {second}", name="again", data=world.path("data"))
    check(answers(again) == before, "with the new key")

    # A byte that was changed is named, and nothing is made up.
    data = max((os.path.join(at, n) for at, _, names in os.walk(store) for n in names if n == "data"), key=os.path.getsize)
    check(again.process.stop() == 0, "stop")
    with open(data, "r+b") as f:
        f.seek(200)
        byte = f.read(1)
        f.seek(200)
        f.write(bytes([byte[0] ^ 1]))
    again.process.start()
    again.ready()
    status, _, body = koa.http(f"{again.query}/api/v1/query?query=count(count_over_time(m[10m]))&time={answers.at:.3f}")
    check(status != 200 or b"warnings" in body or b'"300"' in body, f"{status} {body[:500]}")
    plain = koa.Serve(world, "--store.dir", world.path("plain"), name="plain", data=world.path("plain-data"))
    plain.flush_all()
    check(plain.process.stop() == 0, "stop")
    p = koa.Serve(world, "--store.dir", world.path("plain"), "--store.encryption_key.file", first, name="late", data=world.path("plain-data"), ready=False).process
    check(p.ended() != 0 and "not encrypted" in p.words(), p.words())


def test_a_cluster_shares_an_encrypted_store(world):
    secret = key(world, "key")
    ours = koa.Cluster(world, "--store.encryption_key.file", secret)
    push(ours, "very-plain-marker")
    answers.at = time.time()
    eventually("all of it", lambda: len(answers(ours)) == 300)
    before = answers(ours)
    ours.flush_all()
    eventually("out of the store", lambda: answers(ours) == before)
    check(not plain_in(world.path("store"), b"very-plain-marker"), "plain bytes in the store")
