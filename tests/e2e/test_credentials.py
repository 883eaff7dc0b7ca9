"""Files of credentials: a user's JWT, signed by an account that an operator has signed, as NATS' own services hand them out."""
import base64
import json
import os
import socket
import time

import koa
from koa import check, eventually, http, metric
from test_permissions import ACCOUNT, OPERATOR, Nkey

REFUSED = "refuses this process: Authorization failed: put its credentials right (nats.credentials.file"


def jwt(kind, name, subject, issuer, more=None, seconds=None):
    write = lambda what: base64.urlsafe_b64encode(json.dumps(what).encode()).decode().rstrip("=")
    now = int(time.time())
    claims = {"jti": os.urandom(16).hex(), "iat": now, "iss": issuer.public, "name": name, "sub": subject.public,
              "nats": {"type": kind, "version": 2, **(more or {})}, **({"exp": now + seconds} if seconds else {})}
    text = f"{write({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{write(claims)}"
    return f"{text}.{issuer.sign(text.encode())}"


class Operated:
    """A nats-server that knows no users, but who signs for them; and a doorman's credentials."""

    def __init__(self, world):
        self.world, self.port = world, koa.free_port()
        self.operator, self.account = Nkey(world.folder, "operator", OPERATOR), Nkey(world.folder, "account", ACCOUNT)
        self.system, self.user = Nkey(world.folder, "system", ACCOUNT), Nkey(world.folder, "user")
        self.server = None
        self.serve()

    def serve(self, revoked=()):
        no_limit = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf", "mem_storage", "disk_storage",
                                  "streams", "consumer"), -1)
        system = jwt("account", "system", self.system, self.operator, {"limits": {"subs": -1, "conn": -1, "data": -1, "payload": -1}})
        account = jwt("account", "koalemos", self.account, self.operator,
                      {"limits": {**no_limit, "wildcards": True}, "revocations": {u.public: int(time.time()) for u in revoked}})
        with open(self.world.path("nats.conf"), "w") as f:
            f.write(f'host: 127.0.0.1\nport: {self.port}\njetstream {{ store_dir: "{self.world.path("nats")}" }}\n'
                    f'operator: {jwt("operator", "o", self.operator, self.operator)}\nresolver: MEMORY\n'
                    f'system_account: {self.system.public}\n'
                    f'resolver_preload: {{ {self.account.public}: {account}, {self.system.public}: {system} }}\n')
        if self.server:
            self.server.kill()
            self.server.start()
        else:
            self.server = self.world.run("nats", koa.nats_server(), "-c", self.world.path("nats.conf"))
        eventually("NATS is ready", lambda: socket.create_connection(("127.0.0.1", self.port), 1).close() is None, 20)

    def credentials(self, file, seconds):
        text = jwt("user", "doorman", self.user, self.account, {"subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}}, seconds)
        with open(file + ".new", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
            f.write(f"-----BEGIN NATS USER JWT-----\n{text}\n------END NATS USER JWT------\n\nNever show it.\n\n"
                    f"-----BEGIN USER NKEY SEED-----\n{self.user.seed}\n------END USER NKEY SEED------\n")
        os.rename(file + ".new", file)

    def doorman(self, name, file):
        at = koa.free_port()
        p = self.world.run(name, os.path.join(koa.BIN, "doorman"), "--listen", f"127.0.0.1:{at}", "--cell", "e2e", "--nats.url",
                           f"nats://127.0.0.1:{self.port}", "--nats.credentials.file", file, "--log.replicas", "1",
                           "--log.bytes_max", "16MiB", "--partitions", "2", "--placement.static", "ingestor-0=0-1")
        return p, f"http://127.0.0.1:{at}"


def is_refused(base):
    status, _, body = http(f"{base}/-/ready")
    return status == 503 and REFUSED in body.decode()


def test_credentials_that_are_renewed_in_time_are_not_noticed_and_others_are_named(world):
    nats = Operated(world)
    kept, forgotten = world.path("kept.creds"), world.path("forgotten.creds")
    nats.credentials(kept, 8)
    nats.credentials(forgotten, 8)
    expires = time.time() + 8
    (p, base), (q, other) = nats.doorman("kept", kept), nats.doorman("forgotten", forgotten)
    for one, where in ((p, base), (q, other)):
        koa.wait_ready(where, one)
    connects = metric(base, "koalemos_bus_connects_total")
    nats.credentials(kept, 3600)                       # the file alone: nobody is told
    check(time.time() < expires, "this machine is too slow for this test")
    eventually("NATS ends what has expired", lambda: metric(base, "koalemos_bus_connects_total") >= connects + 3, 30)
    eventually("a push with the new ones", lambda: koa.push(base, [({"__name__": "m"}, [(int(time.time() * 1000), 1.0)])])[0] == 204, 20)
    eventually("who forgot to is told", lambda: is_refused(other), 30)
    late, _ = nats.doorman("late", forgotten)
    check(late.ended() == 1 and REFUSED in late.words(), f"with expired ones: {late.words()}")
    # A user that its account has taken back: whoever runs is told, and who starts.
    nats.serve(revoked=[nats.user])
    eventually("a revoked one is told", lambda: is_refused(base), 30)
    late, _ = nats.doorman("revoked", kept)
    check(late.ended() == 1 and REFUSED in late.words(), f"revoked: {late.words()}")
    for one in world.processes:
        check(nats.user.seed not in one.words(), f"{one.name} shows its seed")
