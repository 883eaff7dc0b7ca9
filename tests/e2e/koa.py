"""What the end-to-end tests share: processes, ports, pushes, questions. Standard library only."""
import contextlib
import ctypes.util
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

BIN = PEERS = None          # set by run.py


REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer", "runtime error:",
           "FATAL: ThreadSanitizer", "Assertion `", "SUMMARY: ")


class Failed(AssertionError):
    pass


def check(condition, words):
    if not condition:
        raise Failed(words)


_turn = os.getpid() * 37


def free_port():
    """A port nobody listens on, never twice. From below the range that the system gives to whoever
    connects, or one of those connections could sit on it before the server does."""
    global _turn
    first, last = 12000, 32000
    for _ in range(last - first):
        _turn += 1
        port = first + _turn % (last - first)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise Failed("no free port on this machine")


def eventually(what, question, seconds=30, pause=0.2):
    """Asks until the answer is truthy; returns it."""
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            answer = question()
            if answer:
                return answer
            last = answer
        except (OSError, Failed, urllib.error.URLError, ValueError) as e:
            last = e
        time.sleep(pause)
    raise Failed(f"{what}: not within {seconds} s; last: {last!r:.500}")


# ---- processes ----

NATS = os.environ.get("KOA_NATS", "nats-server")       # of the peers; nats-server-newer is the next Debian's


def nats_server():
    return os.path.join(PEERS, NATS)


def nats_version():
    said = subprocess.run([nats_server(), "--version"], capture_output=True, text=True).stdout
    return tuple(int(n) for n in re.search(r"v(\d+)\.(\d+)", said).groups())


class Process:
    """One server, its output in a file. Ended with everything else when its World closes."""

    def __init__(self, name, args, folder, env=None):
        self.name, self.args, self.env = name, [str(a) for a in args], env
        self.log = os.path.join(folder, name + ".log")
        self.child = None
        self.is_ours = os.path.dirname(self.args[0]) == BIN
        self.start()

    def start(self):
        self.may_be_gone = False                       # an end that no test asked for is a failure
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(self.args, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                          env={**os.environ, **(self.env or {})})

    def kill(self):                                    # as a crash: no goodbye
        self.may_be_gone = True
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def stop(self, seconds=20):
        """Its exit status after a SIGTERM."""
        if self.child.poll() is None:
            self.may_be_gone = True
            self.child.terminate()
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
                raise Failed(f"{self.name} did not stop within {seconds} s of SIGTERM")
        return self.child.returncode

    def ended(self, seconds=20):
        """The exit status of one that is to end by itself."""
        eventually(f"{self.name} ends", lambda: not self.alive(), seconds)
        self.may_be_gone = True
        return self.child.returncode

    def alive(self):
        return self.child.poll() is None

    def reports(self):
        """What sanitizers and assertions had to say."""
        return [line for line in self.words().splitlines() if any(w in line for w in REPORTS)]

    def words(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def cpu_seconds(self):
        with open(f"/proc/{self.child.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self):                              # resident, ever
        with open(f"/proc/{self.child.pid}/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM:"))

    def resident_bytes(self):
        with open(f"/proc/{self.child.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class World(contextlib.ExitStack):
    """A scratch folder and what was started in it; everything ends with it.

    A test that passed fails yet where one of our servers died unasked, complained of itself (a
    sanitizer, an assertion), or does not end well when it is asked to.
    """

    def __enter__(self):
        super().__enter__()
        self.folder = tempfile.mkdtemp(prefix="koa-e2e-")
        self.processes = []
        return self

    def __exit__(self, kind, error, trace):
        faults = self.faults(good=kind is None)
        for p in reversed(self.processes):
            if p.alive():
                p.kill()
        if kind is not None or faults:
            for p in self.processes:
                print(f"--- {p.name}: last words\n{p.words()[-1500:]}", flush=True)
            if os.environ.get("KOA_E2E_KEEP") is not None:
                print(f"--- kept: {self.folder}", flush=True)
        if not (kind is not None or faults) or os.environ.get("KOA_E2E_KEEP") is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        handled = super().__exit__(kind, error, trace)
        check(kind is not None or not faults, "; ".join(faults))
        return handled

    def faults(self, good):
        """Ends what is ours in the order of a shutdown: who asks goes before who answers."""
        found = []
        for p in reversed([p for p in self.processes if p.is_ours]):
            if not p.alive() and not p.may_be_gone:
                found.append(f"{p.name} died by itself, with {p.child.returncode}")
            elif good and p.alive():
                try:
                    status = p.stop()
                    if status != 0:
                        found.append(f"{p.name} ended with {status} after SIGTERM")
                except Failed as e:
                    found.append(str(e))
            found += [f"{p.name}: {line}" for line in p.reports()[:3]]
        if not good:
            for words in found:
                print(f"besides: {words}", flush=True)
        return found

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def run(self, name, *args, **kw):
        p = Process(name, args, self.folder, **kw)
        self.processes.append(p)
        return p


# ---- HTTP ----

def http(url, data=None, headers=None, timeout=60, method=None):
    """(status, headers, body); an HTTP error is an answer like any other."""
    request = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as r:
            return r.status, r.headers, r.read()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.headers, e.read()


def metrics(base):
    """What a process tells of itself: {name with its labels, as it stands there: value}"""
    status, _, body = http(f"{base}/metrics")
    check(status == 200, f"/metrics: {status} {body[:200]!r}")
    lines = (line.rpartition(" ") for line in body.decode().splitlines() if line and line[0] != "#")
    return {name: float(value) for name, _, value in lines}


def metric(base, name):
    """The sum of all series of that name, or the one of a name with labels; 0 without any."""
    return sum(value for full, value in metrics(base).items() if full == name or full.startswith(name + "{"))


def stored(base):
    """What came for filesets since the querier's start, by its own count: {(kind, what): bytes, or requests}"""
    told = metrics(base)
    names = {"wanted": "stored_wanted_bytes_total", "requests": "store_requests_total"}
    return {(kind, what): told[f'koalemos_querier_stored_bytes_total{{kind="{kind}",from="{what}"}}'
                               if what not in names else f'koalemos_querier_{names[what]}{{kind="{kind}"}}']
            for kind in ("data", "index") for what in ("memory", "disk", "store", "shared", *names)}


def api(base, path, tenant=None, post=False, **params):
    """The `data` of a good answer of the query API; Failed with its words else."""
    pairs = [(k.rstrip("_").replace("match", "match[]") if k == "match" else k, v)
             for k, vs in params.items() for v in (vs if isinstance(vs, list) else [vs])]
    query = urllib.parse.urlencode(pairs)
    headers = {"X-Scope-OrgID": tenant} if tenant else {}
    url = f"{base}/api/v1/{path}"
    if post:
        status, _, body = http(url, query.encode(), {**headers, "Content-Type": "application/x-www-form-urlencoded"})
    else:
        status, _, body = http(f"{url}?{query}", headers=headers)
    try:
        answer = json.loads(body)
    except ValueError:
        raise Failed(f"{path}: {status} {body[:300]!r}")
    check(status == 200 and answer["status"] == "success", f"{path} {params}: {status} {body[:500]!r}")
    check(not answer.get("warnings"), f"{path} {params}: warnings {answer.get('warnings')}")
    return answer["data"]


def instant(base, query, at=None, **kw):
    """{labels as a sorted tuple: value} of an instant vector; a scalar's value."""
    data = api(base, "query", query=query, **({} if at is None else {"time": f"{at:.3f}"}), **kw)
    if data["resultType"] == "scalar":
        return float(data["result"][1])
    return {tuple(sorted(s["metric"].items())): float(s["value"][1]) for s in data["result"]}


def one(base, query, at=None, **kw):
    got = instant(base, query, at, **kw)
    check(len(got) == 1, f"{query}: {len(got)} series instead of one")
    return next(iter(got.values()))


def close_to(a, b, relative=1e-9):
    return a == b or (a != a and b != b) or abs(a - b) <= relative * max(abs(a), abs(b))


def same_vectors(ours, theirs, what, relative=1e-9):
    check(ours.keys() == theirs.keys(),
          f"{what}: only ours {sorted(ours.keys() - theirs.keys())[:3]}, "
          f"only theirs {sorted(theirs.keys() - ours.keys())[:3]}")
    for k in ours:
        check(close_to(ours[k], theirs[k], relative), f"{what}: {dict(k)}: ours {ours[k]!r}, theirs {theirs[k]!r}")


# ---- remote write 1.0 ----

def _varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _field(number, payload):
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def rw1_series(labels, samples, more=b""):
    """One TimeSeries. labels: dict (sorted here) or list of pairs as they are; samples: (ms, value); more
    fields, as bytes."""
    pairs = sorted(labels.items()) if isinstance(labels, dict) else labels
    enc = lambda t: t if isinstance(t, bytes) else t.encode()
    body = b"".join(_field(1, _field(1, enc(n)) + _field(2, enc(v))) for n, v in pairs)
    for ms, v in samples:
        body += _field(2, b"\x09" + struct.pack("<d", v) + b"\x10" + _varint(ms))
    return _field(1, body + more)


_snappy = None


def snappy(data):
    """Really compressed, by libsnappy, so that a push costs a server what an agent's costs."""
    global _snappy
    if _snappy is None:
        _snappy = ctypes.CDLL(ctypes.util.find_library("snappy") or "libsnappy.so.1")
    out = ctypes.create_string_buffer(_snappy.snappy_max_compressed_length(ctypes.c_size_t(len(data))))
    size = ctypes.c_size_t(len(out))
    check(_snappy.snappy_compress(data, ctypes.c_size_t(len(data)), out, ctypes.byref(size)) == 0, "snappy")
    return out.raw[:size.value]


RW1 = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy",
       "X-Prometheus-Remote-Write-Version": "0.1.0"}


def push(base, series, tenant=None, timeout=60):
    """Pushes [(labels, samples)...]; (status, words)."""
    body = snappy(b"".join(rw1_series(*s) for s in series))
    headers = {**RW1, **({"X-Scope-OrgID": tenant} if tenant else {})}
    status, _, answer = http(f"{base}/api/v1/write", body, headers, timeout)
    return status, answer.decode(errors="replace")


# ---- our servers ----

class Serve:
    """`koalemos serve`."""

    def __init__(self, world, *flags, name="serve", data=None, ready=True):
        self.port = free_port()
        self.push = self.query = self.flush = f"http://127.0.0.1:{self.port}"
        self.process = world.run(name, os.path.join(BIN, "koalemos"), "serve", "--data-dir",
                                 data or world.path("data"), "--listen", f"127.0.0.1:{self.port}", *flags)
        self.processes = [self.process]
        if ready:
            self.ready()

    def ready(self, seconds=60):
        wait_ready(self.push, self.process, seconds)

    def flush_all(self):
        status, _, body = http(f"{self.flush}/api/v1/admin/tsdb/flush", b"", method="POST")
        check(status == 204, f"flush: {status} {body[:300]!r}")


def wait_ready(base, process, seconds=60):
    def asks():
        check(process.alive(), f"{process.name} ended: {process.words()[-600:]}")
        return http(f"{base}/-/ready", timeout=5)[0] == 200
    eventually(f"{process.name} ready", asks, seconds, 0.1)


class Cluster:
    """nats-server, one doorman, two ingestors, one querier."""

    def __init__(self, world, *flags, ready=True, store=None):
        self.nats_port = free_port()
        os.makedirs(world.path("nats"), exist_ok=True)
        with open(world.path("nats.conf"), "w") as f:
            f.write(f'host: 127.0.0.1\nport: {self.nats_port}\n'
                    f'jetstream {{ store_dir: "{world.path("nats")}", max_file_store: 20GB }}\n')
        with open(world.path("cluster.yaml"), "w") as f:
            f.write(f"cell: e2e\npartitions: 16\nnats:\n  url: nats://127.0.0.1:{self.nats_port}\n"
                    "log:\n  replicas: 1\n  bytes_max: 256MiB\n"
                    "placement:\n  static: ingestor-0=0-7,ingestor-1=8-15\n")
        self.nats = world.run("nats", nats_server(), "-c", world.path("nats.conf"))
        self.ports = {}

        def service(program, name, *more):
            self.ports[name] = free_port()
            return world.run(name, os.path.join(BIN, program), "--config", world.path("cluster.yaml"),
                             "--listen", f"127.0.0.1:{self.ports[name]}", *more, *flags)
        self.service = service
        store = store or ["--store.dir", world.path("store")]
        self.doorman = service("doorman", "doorman")
        self.ingestors = [service("ingestor", f"ingestor-{i}", "--ingestor.name", f"ingestor-{i}",
                                  "--data-dir", world.path(f"ingestor-{i}"), *store) for i in (0, 1)]
        self.querier = service("querier", "querier", *store)
        self.processes = [self.nats, self.doorman, *self.ingestors, self.querier]
        self.push = self.url("doorman")
        self.query = self.url("querier")
        if ready:
            self.ready()

    def second_doorman(self):
        """One more, ready; its process."""
        p = self.service("doorman", "doorman-1", "--doorman.name", "doorman-1")
        self.processes.insert(2, p)
        wait_ready(self.url("doorman-1"), p)
        return p

    def url(self, name):
        return f"http://127.0.0.1:{self.ports[name]}"

    def ready(self, seconds=90):
        for p in self.processes[1:]:
            wait_ready(self.url(p.name), p, seconds)

    def flush_all(self):
        for i in (0, 1):
            status, _, body = http(f"{self.url(f'ingestor-{i}')}/api/v1/admin/tsdb/flush", b"", method="POST")
            check(status == 204, f"flush of ingestor-{i}: {status} {body[:300]!r}")
