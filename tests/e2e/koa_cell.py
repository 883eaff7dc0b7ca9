"""A cell as it grows and fails: nats-servers, doormen, ingestors that register, queriers. Partitions are
given by the coordinator; heartbeats are quick, so that a test sees in seconds what takes minutes."""
import json
import os
import socket
import time

import koa
from koa import check, eventually, free_port, http, metric  # noqa: F401 (tests of cells take metric from here)
from koa_apart import Loopback

SILENT_S, GONE_S = 2.0, 8.0


class Cell:
    def __init__(self, world, *flags, servers=1, doormen=1, ingestors=2, replicas=2, partitions=8, ready=True, net=None, store=None):
        self.world, self.flags, self.net = world, flags, net or Loopback()
        self.store = store or ["--store.dir", world.path("store")]
        self.ports = {}
        self.nats_ports = [free_port() for _ in range(servers)]
        routes = [free_port() for _ in range(servers)]
        self.nats = []
        pings = "ping_interval: 1s, ping_max: 3," if koa.nats_version() >= (2, 10) else ""     # as deploy/ has it; 2.9 does not know them
        for i in range(servers):
            conf = world.path(f"nats-{i}.conf")
            os.makedirs(world.path(f"nats-{i}"), exist_ok=True)
            with open(conf, "w") as f:
                if os.environ.get("KOA_NATS_DEBUG"):   # its elections
                    f.write("debug: true\n")
                f.write(f'server_name: n{i}\nhost: {self.net.address(i)}\nport: {self.nats_ports[i]}\n'
                        f'jetstream {{ store_dir: "{world.path(f"nats-{i}")}", max_file_store: 20GB }}\n')
                if servers > 1:
                    f.write(f'cluster {{ name: c, host: {self.net.address(i)}, port: {routes[i]}, {pings} routes: ['
                            + ", ".join(f'"nats://{self.net.address(n)}:{r}"' for n, r in enumerate(routes)) + "] }\n")
            self.nats.append(world.run(f"nats-{i}", *self.net.inside(i), koa.nats_server(), "-c", conf))
        self.replicas = replicas
        self.configure(partitions)
        self.doormen = [self.service("doorman", f"doorman-{i}", f"--doorman.name=doorman-{i}") for i in range(doormen)]
        self.ingestors = {}
        self.wanted = set()                            # of them, those that are not drained
        for i in range(ingestors):
            self.add_ingestor(i)
        self.querier = self.service("querier", "querier", *self.store)
        self.push = self.url("doorman-0")
        self.query = self.url("querier")
        if ready:
            self.ready()

    def configure(self, partitions):
        """Of processes that start from now on."""
        with open(self.world.path("cell.yaml"), "w") as f:
            f.write(f"cell: e2e\npartitions: {partitions}\nnats:\n  url: "
                    + ",".join(f"nats://{self.net.address(i)}:{p}" for i, p in enumerate(self.nats_ports))
                    + f"\nlog:\n  replicas: {min(len(self.nats), 3)}\n  bytes_max: 256MiB\n"
                    f"cluster:\n  replicas: {self.replicas}\n  heartbeat: 400ms\n  silent: {SILENT_S}s\n  gone: {GONE_S}s\n"
                    .replace(".0s", "s"))

    @property
    def processes(self):
        return [*self.nats, *self.doormen, *self.ingestors.values(), self.querier]

    def service(self, program, name, *more):
        self.ports.setdefault(name, free_port())
        return self.world.run(name, os.path.join(koa.BIN, program), "--config", self.world.path("cell.yaml"),
                              "--listen", f"127.0.0.1:{self.ports[name]}", *more, *self.flags)

    def add_ingestor(self, i, zone=None, disk=None, name=None):
        name = name or f"ingestor-{i}"
        self.wanted.add(name)
        self.ingestors[i] = self.service("ingestor", name, "--ingestor.name", name, "--ingestor.zone",
                                         zone or "ab"[i % 2], "--data-dir", self.world.path(disk or name),
                                         *self.store)
        return self.ingestors[i]

    def url(self, name):
        return f"http://127.0.0.1:{self.ports[name]}"

    def ready(self, seconds=90):
        for p in self.processes[len(self.nats):]:
            if p.alive():
                koa.wait_ready(self.url(p.name), p, seconds)

    def ask(self, what, base=None):
        status, _, body = http(f"{base or self.push}/api/v1/koalemos/{what}")
        check(status == 200, f"{what}: {status} {body[:300]!r}")
        return json.loads(body)["data"]

    def wish(self, what, **params):
        status, _, body = http(f"{self.push}/api/v1/koalemos/{what}?" + "&".join(f"{k}={v}" for k, v in params.items()),
                               b"", method="POST")
        check(status == 200, f"{what} {params}: {status} {body[:300]!r}")

    def shards(self):
        return self.ask("shard-map")["partitions"]

    def settled(self, members, seconds=60):
        """Every partition has exactly these as members, all ready, and one of them owns it."""
        def so():
            for p in self.shards():
                have = [m["node"] for m in p["members"]]
                if not (set(have) <= set(members) and len(have) == min(2, len(members)) and
                        all(m["state"] == "ready" and m["presence"] == "alive" for m in p["members"]) and
                        p["lease"] and p["lease"]["valid"] and p["lease"]["owner"] == have[0]):
                    return False
            return True
        try:
            eventually(f"partitions settled on {members}", so, seconds, 0.3)
        except koa.Failed:
            raise koa.Failed(f"not settled on {members}: {json.dumps(self.shards())[:3000]}")

    def owned_by(self, name, seconds=30):
        def so():
            return all(p["lease"]["owner"] == name and p["lease"]["valid"] for p in self.shards())
        try:
            eventually(f"{name} owns all", so, seconds)
        except koa.Failed:
            raise koa.Failed(f"{name} does not own all: {json.dumps(self.shards())[:4000]}\n"
                             + "\n".join(p.words()[-1500:] for p in self.ingestors.values()))

    def streams(self):
        return ["KV_KOA_e2e", *(f"KOA_L_e2e_{p:04d}" for p in range(len(self.shards())))]

    def replicas_of(self, stream, by=0):
        """What the by'th server hears of a stream's servers: the leader's number, and that of those which keep up with it."""
        answer = nats_request(self.nats_ports[by], f"$JS.API.STREAM.INFO.{stream}", host=self.net.address(by), seconds=3)
        cluster = answer.get("cluster") or {}
        followers = [r for r in cluster.get("replicas") or [] if r.get("current") and not r.get("offline")]
        return (int(cluster["leader"][1:]) if cluster.get("leader") else None), len(followers)

    def nats_whole(self, seconds=60):
        """Every stream has a leader, and all others keep up: the next fault is the only one. A server 2.9 that comes back may stay
        behind for ever, which is its own affair and helped by a restart of it: said aloud, and once."""
        def so():
            return all(self.replicas_of(stream) == (self.replicas_of(stream, 1)[0], len(self.nats) - 1) for stream in self.streams())
        try:
            eventually("NATS is whole", so, seconds)
        except koa.Failed:
            behind = set()
            for stream in self.streams():
                cluster = nats_request(self.nats_ports[0], f"$JS.API.STREAM.INFO.{stream}", host=self.net.address(0), seconds=3).get("cluster") or {}
                behind |= {int(r["name"][1:]) for r in cluster.get("replicas") or [] if not r.get("current") or r.get("offline")}
            for i in sorted(behind or range(len(self.nats))):
                print(f"       nats-{i} stayed behind for {seconds} s and is started anew", flush=True)
                self.nats[i].stop()
                self.nats[i].start()
            eventually("NATS is whole", so, 2 * seconds)

    def flush_all(self, seconds=0):
        """Where partitions may be going over to another log, or be replayed, they say so with 503 for `seconds`."""
        until = time.monotonic() + seconds
        for p in self.ingestors.values():
            while p.alive():
                status, _, body = http(f"{self.url(p.name)}/api/v1/admin/tsdb/flush", b"", method="POST")
                if status == 204:
                    break
                check(status == 503 and time.monotonic() < until, f"flush of {p.name}: {status} {body[:300]!r}")
                time.sleep(0.1)


def nats_request(port, subject, payload=b"", seconds=10, host="127.0.0.1"):
    """One request to a nats-server, in its own words. Of what has no leader nobody answers, and the server pings."""
    end = time.monotonic() + seconds
    with socket.create_connection((host, port), timeout=seconds) as s:
        f = s.makefile("rb")
        f.readline()                                   # INFO
        s.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB _INBOX.e2e 1\r\n'
                  + f"PUB {subject} _INBOX.e2e {len(payload)}\r\n".encode() + payload + b"\r\n")
        while True:
            line = f.readline()
            check(line != b"", f"{subject}: the server hung up")
            if line.startswith(b"PING"):
                check(time.monotonic() < end, f"{subject}: no answer in {seconds} s")
                s.sendall(b"PONG\r\n")
            elif line.startswith(b"MSG"):
                return json.loads(f.read(int(line.split()[-1])))


def sleep_past_silence():
    time.sleep(SILENT_S * 1.6)
