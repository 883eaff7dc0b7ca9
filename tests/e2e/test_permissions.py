"""The configuration of NATS that we ship: each service works with its permissions, and is refused beyond them."""
import base64
import json
import os
import re
import subprocess
import time

import koa
import koa_cell
from koa import check, eventually, http, instant, one
from test_messages import Nats
from test_tls import Ca, openssl

HERE = os.path.dirname(os.path.abspath(__file__))
CONF = os.path.join(HERE, "..", "..", "deploy", "nats", "koalemos.conf")


def crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xffff
    return crc.to_bytes(2, "little")


ACCOUNT, OPERATOR, USER = 0, 14, 20                    # their letters are A, O and U


class Nkey:
    """An NKey, a user's unless said: an Ed25519 key in NATS' writing."""

    def __init__(self, folder, name, kind=USER):
        self.pem, self.file = os.path.join(folder, f"{name}.pem"), os.path.join(folder, f"{name}.nk")
        openssl("genpkey", "-algorithm", "ed25519", "-out", self.pem)
        seed = openssl("pkey", "-in", self.pem, "-outform", "DER").stdout[-32:]
        public = openssl("pkey", "-in", self.pem, "-pubout", "-outform", "DER").stdout[-32:]
        user, prefix = kind << 3, 18 << 3              # 'S'
        write = lambda data: base64.b32encode(data + crc16(data)).decode().rstrip("=")
        self.public = write(bytes([user]) + public)
        self.seed = write(bytes([prefix | user >> 5, (user & 31) << 3]) + seed)
        with open(self.file, "w") as f:
            f.write(self.seed)
        os.chmod(self.file, 0o600)

    def sign(self, data):
        with open(self.pem + ".nonce", "wb") as f:
            f.write(data)
        sig = openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.pem, "-in", self.pem + ".nonce").stdout
        return base64.urlsafe_b64encode(sig).decode().rstrip("=")

    def connect(self, port):
        nats = Nats.__new__(Nats)
        nats.plain(port)
        nats.hello(nkey=self.public, sig=self.sign(nats.info["nonce"].encode()))
        return nats


USERS = ("doorman", "ingestor", "querier", "agent", "operator")


class Permitted(koa_cell.Cell):
    """A cell whose NATS has the shipped configuration, for the cell "e2e"."""

    def __init__(self, world, *flags, more="", **kw):
        self.keys = {u: Nkey(world.folder, u) for u in USERS}
        with open(CONF) as f:
            words = re.sub(r"_main\b", "_e2e", re.sub(r"(?<=[.])main\b", "e2e", f.read()))
        check("main" not in re.sub(r"#.*", "", words), "a name of the cell that was not replaced")
        with open(world.path("koalemos.conf"), "w") as f:
            f.write(words + more)
        run = world.run

        def with_permissions(name, program, *args, env=None, **more_of):
            if name.startswith("nats-"):
                with open(world.path(f"{name}.conf"), "a") as f:
                    f.write("include koalemos.conf\n")
                env = {f"KOALEMOS_{u.upper()}_NKEY": k.public for u, k in self.keys.items()}
                p = run(name, program, *args, env=env, **more_of)
                eventually("NATS", lambda: "Server is ready" in p.words())
                self.init()
                return p
            user = os.path.basename(program)
            return run(name, program, *args, "--nats.nkey.file", self.keys[user].file, "--nats.nkey.public", self.keys[user].public, **more_of)
        world.run = with_permissions
        super().__init__(world, *flags, **kw)

    def init(self):
        self.replicas = 2
        self.nats.append(None)                         # as many as it will have
        self.configure(8)
        self.nats.pop()
        p = subprocess.run([os.path.join(koa.BIN, "koalemos"), "cluster", "init", "--config", self.world.path("cell.yaml"), *self.flags,
                            "--nats.nkey.file", self.keys["operator"].file, "--nats.nkey.public", self.keys["operator"].public],
                           capture_output=True, text=True, timeout=120)
        check(p.returncode == 0, f"cluster init: {p.stdout} {p.stderr}")


def test_each_service_works_with_the_permissions_that_we_ship_and_not_beyond(world):
    cell = Permitted(world)
    now = int(time.time() * 1000)
    for i in range(20):
        check(koa.push(cell.push, [({"__name__": f"m{i}", "a": "b"}, [(now, 1.0)])])[0] == 204, "push")
    count = lambda: list(instant(cell.query, 'count({__name__=~"m.*"})').values()) == [20.0]
    eventually("it is read back", count)
    cell.flush_all()
    check(count(), "after a flush")
    cell.ingestors[0].kill()                           # leases, catalogue and marks change hands
    eventually("the other answers", count, 60)
    cell.ingestors[0].start()
    eventually("it comes back", lambda: http(f"{cell.url('ingestor-0')}/-/ready")[0] == 200, 60)
    p = subprocess.run([os.path.join(koa.BIN, "koalemos"), "cluster", "leave", "ingestor-0", "--wait=60s", "--config", world.path("cell.yaml"),
                        "--nats.nkey.file", cell.keys["ingestor"].file, "--nats.nkey.public", cell.keys["ingestor"].public],
                       capture_output=True, text=True, timeout=120)
    check(p.returncode == 0 and "Permission" not in p.stdout + p.stderr, f"leave, as an ingestor: {p.stdout} {p.stderr}")
    cell.ingestors[0].stop()
    cell.ingestors[0].start()
    eventually("it comes back", lambda: {n["mark"] for n in cell.ask("nodes")["nodes"]} == {""}, 60)
    cell.wish("drain", node="ingestor-1")
    eventually("it is drained", lambda: all("ingestor-1" not in [m["node"] for m in p["members"]] for p in cell.shards()), 60)
    cell.ingestors[1].kill()
    cell.wish("nodes", action="remove", name="ingestor-1")
    eventually("its keys are deleted", lambda: [n["name"] for n in cell.ask("nodes")["nodes"]] == ["ingestor-0"], 60)
    agent = cell.keys["agent"].connect(cell.nats_ports[0])
    check(agent.ask("koa.e2e.ingest.t", b"of_nats 1\n", Content_Type="text/plain")[0] == 204, "an agent's message")
    eventually("and it", lambda: one(cell.query, "of_nats", tenant="t") == 1)
    for p in [*cell.doormen, *cell.ingestors.values(), cell.querier]:
        bad = [line for line in p.words().splitlines() if "Permitted" in line or "Permissions" in line]
        check(not bad, f"{p.name}: {bad[:3]}")

    # Beyond them: what a service that was taken over would try.
    port = cell.nats_ports[0]
    def refused(user, subject, body=b"{}", subscribe=False):
        nats = cell.keys[user].connect(port)
        nats.socket.settimeout(10)
        if subscribe:
            nats.send(f"SUB {subject} 9\r\nPING\r\n".encode())
        else:
            nats.publish(subject, body)
            nats.send(b"PING\r\n")
        said = b""
        while b"PONG" not in said:
            said += nats.file.readline()
        nats.send(b"PING\r\n")                         # the error may come behind the first answer
        while said.count(b"PONG") < 2:
            said += nats.file.readline()
        nats.close()
        check((b"Permissions Violation" in said) is True, f"{user} may {'hear' if subscribe else 'say'} {subject}: {said}")
    stream, bucket = "KOA_L_e2e_0000", "KV_KOA_e2e"
    for user in ("doorman", "ingestor", "querier", "agent"):
        for subject in (f"$JS.API.STREAM.DELETE.{stream}", f"$JS.API.STREAM.DELETE.{bucket}", f"$JS.API.STREAM.PURGE.{bucket}",
                        f"$JS.API.STREAM.UPDATE.{stream}", f"$JS.API.STREAM.CREATE.X", f"$JS.API.STREAM.MSG.DELETE.{stream}",
                        "koa.other.log.0000", "$KV.KOA_other.placement", "$SYS.REQ.SERVER.PING", "whatever"):
            refused(user, subject)
        for subject in (">", "_INBOX.>", "koa.>", "koa.e2e.log.>", "$KV.>"):
            refused(user, subject, subscribe=True)
    for user in ("doorman", "querier", "agent"):
        refused(user, f"$JS.API.STREAM.PURGE.{stream}")
        refused(user, f"$JS.API.CONSUMER.CREATE.{stream}")
        refused(user, "$KV.KOA_e2e.catalogue.0000")
        refused(user, "koa.e2e.select.>", subscribe=True)
    for subject in ("$KV.KOA_e2e.placement", "$KV.KOA_e2e.lease.coordinator", "koa.e2e.ingest.t"):
        refused("ingestor", subject)
    for subject in ("$KV.KOA_e2e.placement", "$KV.KOA_e2e.node.ingestor-0", "koa.e2e.ingest.t"):
        refused("querier", subject)
    refused("agent", "koa.e2e.log.0000")
    refused("doorman", "_INBOX.querier.>", subscribe=True)


def test_certificates_both_ways_and_passwords_out_of_files(world):
    ca = Ca(world.path("ca"))
    (crt, key), client = ca.sign("nats"), ca.sign("client", "clientAuth")
    cell = Permitted(world, "--nats.ca.file", ca.crt, "--nats.cert.file", client[0], "--nats.key.file", client[1],
                     more=f'\ntls {{ cert_file: "{crt}", key_file: "{key}", ca_file: "{ca.crt}", verify: true }}\n', ingestors=1)
    check(koa.push(cell.push, [({"__name__": "m"}, [(int(time.time() * 1000), 1.0)])])[0] == 204, "push")
    eventually("it is read back", lambda: one(cell.query, "m") == 1)

    port, secret = koa.free_port(), "pass-" + os.urandom(8).hex()
    with open(world.path("plain.conf"), "w") as f:
        f.write(f'host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: "{world.path("plain")}" }}\n'
                f'authorization {{ user: koala, password: "{secret}" }}\n')
    run = koa.World.run
    run(world, "plain", koa.nats_server(), "-c", world.path("plain.conf"))
    for name, word, good in (("right", secret, True), ("wrong", "x", False)):
        with open(world.path(name), "w") as f:
            f.write(word + "\n")
        def init():
            p = subprocess.run([os.path.join(koa.BIN, "koalemos"), "cluster", "init", "--cell", "c", "--log.replicas", "1", "--log.bytes_max", "1MiB",
                                "--nats.url", f"nats://127.0.0.1:{port}", "--nats.user", "koala", "--nats.password.file", world.path(name),
                                "--bus.timeout", "2s"], capture_output=True, text=True, timeout=120)
            check(secret not in p.stdout + p.stderr, "the password is shown")
            return p.returncode == 0
        if good:
            eventually("with the password", init)
        else:
            check(not init(), "with another")
