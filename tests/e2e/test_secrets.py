"""A secret that is set everywhere is to be found nowhere: not in logs, pages, metrics, errors or cores."""
import http.server
import os
import re
import resource
import signal
import threading
import time

import koa
from koa import check, eventually, http as ask
from test_keys import Keys, bearer, basic, endpoints, tool
from test_tls import Ca


class Canaries:
    """Secrets by name, each in a file of its own."""

    def __init__(self, world):
        self.world, self.all = world, {}

    def new(self, name):
        self.all[name] = f"canary-{name}-{os.urandom(12).hex()}"
        path = self.world.path(f"{name}.secret")
        with open(path, "w") as f:
            f.write(self.all[name] + "\n")
        os.chmod(path, 0o600)
        return path

    def key(self, name):
        """One of 64 hex digits: neither they nor the 32 bytes that they say."""
        path = self.new(name)
        self.all[name] = os.urandom(32).hex()
        self.all[f"{name}'s bytes"] = bytes.fromhex(self.all[name])
        with open(path, "w") as f:
            f.write(self.all[name] + "\n")
        return path

    def look(self, where, text):
        text = text if isinstance(text, bytes) else text.encode()
        for name, secret in self.all.items():
            secret = secret if isinstance(secret, bytes) else secret.encode()
            check(secret not in text, f"{where} holds the secret {name}: {text[max(0, text.find(secret) - 200):][:400]!r}")

    def look_below(self, folder):
        for at, _, files in os.walk(folder):
            for name in files:
                with open(os.path.join(at, name), "rb") as f:
                    self.look(os.path.join(at, name), f.read())


class Unfriendly(http.server.ThreadingHTTPServer):
    """An S3 store, or a collector, that says no and repeats what it was told."""

    def __init__(self):
        objects = {}

        class Handler(http.server.BaseHTTPRequestHandler):
            def say(self, status, body=b""):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def answer(self):
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.split("?")[0]
                if self.command == "PUT" and path.endswith("catalogue/cell"):      # or it would not begin at all
                    objects[path] = sent
                    self.say(200)
                elif "list-type" in self.path:
                    self.say(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
                elif self.command in ("GET", "HEAD") and path in objects:
                    self.say(200, objects[path])
                elif self.command in ("GET", "HEAD"):
                    self.say(404, b"<Error><Code>NoSuchKey</Code></Error>")
                else:
                    self.say(403, f"<Error><Code>AccessDenied</Code><Message>no: {self.headers}</Message></Error>".encode())
            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

            def log_message(self, *_):
                pass
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def test_secrets_that_are_set_everywhere_are_found_nowhere(world):
    canaries, keys, ca = Canaries(world), Keys(world), Ca(world.path("ca"))
    operator, other = keys.new("read,write,admin", "*"), keys.new("read", "team-a")
    for name, key in (("operator", operator), ("other", other)):
        canaries.all[name] = key.split(".")[1]
    store = Unfriendly()
    with open(ca.sign("server")[1]) as f:
        canaries.all["tls"] = f.read().splitlines()[1][:40]
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    serve_flags = ["--log.level", "debug", "--log.requests", "all", *keys.flags, "--audit.key.file", canaries.new("audit"), "--http.lifecycle", "true",
                   "--store.url", "s3://bucket/x", "--store.s3.endpoint", f"http://127.0.0.1:{store.server_port}",
                   "--store.s3.access_key.file", canaries.new("s3-access"), "--store.s3.secret_key.file", canaries.new("s3-secret"),
                   "--store.s3.session_token.file", canaries.new("s3-token"), "--store.s3.tries", "1",
                   "--trace.sample_one_in", "1", "--encryption.keys.file", canaries.key("folders"),
                   "--trace.token.file", canaries.new("trace")]
    os.environ["AWS_SECRET_ACCESS_KEY"] = canaries.all["aws"] = "canary-aws-" + os.urandom(8).hex()
    canaries.all["address"] = "canary-address-" + os.urandom(8).hex()
    os.environ["KOALEMOS_TRACE_OTLP_URL"] = f"http://me:{canaries.all['address']}@127.0.0.1:{store.server_port}/v1/traces"
    try:
        serve = koa.Serve(world, *serve_flags)
    finally:
        del os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["KOALEMOS_TRACE_OTLP_URL"]
    key = bearer(operator)
    now = int(time.time() * 1000)
    for name, headers in (("bearer", key), ("basic", basic(operator)), ("basic", basic(operator, user=operator))):
        body = koa.snappy(koa.rw1_series({"__name__": name}, [(now, 1.0)]))
        check(ask(f"{serve.push}/api/v1/write", body, {**koa.RW1, **headers})[0] == 204, name)
    try:
        canaries.look("a flush", ask(f"{serve.push}/api/v1/admin/tsdb/flush", b"", key, timeout=5)[2])
    except TimeoutError:                               # the store refuses, and it is tried again
        pass

    # Errors of every kind, with keys in the places where people put them by mistake.
    secret = canaries.all["operator"]
    for headers in (bearer(operator + "x"), basic(operator + "x"), {"Authorization": operator}, {"Authorization": f"Digest {operator}"},
                    bearer(f"x.{secret}"), bearer(other, "team-b"), {**bearer(other), "X-Scope-OrgID": "a b"}):
        for path in ("/api/v1/query?query=up", "/api/v1/write", "/nowhere", "/api/v1/status/flags"):
            for method, data in (("GET", None), ("POST", b"x")):
                status, head, body = ask(serve.push + path, data, headers, method=method)
                canaries.look(f"{method} {path} {headers}", body + str(head).encode())

    for method, path in endpoints(serve.push, operator):
        if "quit" in path:
            continue
        for more in ("", "?query=up&match[]=up&metric=up&tenant=x"):
            try:                                       # some orders wait for the store
                status, head, body = ask(serve.push + path.replace("*", "job") + more, b"" if method != "GET" else None, key,
                                         method=method, timeout=3 if "admin" in path else 60)
            except TimeoutError:
                continue
            canaries.look(f"{method} {path}", body + str(head).encode())
    config = ask(f"{serve.push}/config", headers=key)[2]
    check(b"s3-secret.secret" in config, "/config names the file")
    time.sleep(2.5)                                    # spans leave, uploads are tried again

    # Nor where the system shows it: the command line, and the audit log.
    pid = serve.process.child.pid
    with open(f"/proc/{pid}/cmdline", "rb") as f:
        canaries.look("the command line", f.read())
    with open(f"/proc/{pid}/limits") as f:
        limit = next(line for line in f if line.startswith("Max core"))
    check(limit.split()[4:6] == ["0", "0"], limit)

    # A crash leaves no core, although the limit that it was started with would let it.
    serve.process.may_be_gone = True
    os.kill(pid, signal.SIGSEGV)
    _, status = os.waitpid(pid, 0)
    serve.process.child.returncode = -os.WTERMSIG(status)
    check(os.WIFSIGNALED(status) and not os.WCOREDUMP(status), f"a core was left: {status}")
    canaries.look("the log", serve.process.words())
    canaries.look_below(world.path("data"))

    # What cannot be read, or is no secret, is told without what it holds.
    for flag, name in (("--auth.keys.file", "keys"), ("--tls.key.file", "tls"), ("--audit.key.file", "empty"),
                       ("--encryption.keys.file", "folders"), ("--store.encryption_key.file", "objects")):
        path = canaries.new(f"bad-{name}")
        if name == "empty":
            open(path, "w").close()
        more = ["--tls.cert.file", ca.crt] if name == "tls" else []
        p = koa.Serve(world, flag, path, *more, name=f"bad-{name}", data=world.path(f"bad-{name}"), ready=False).process
        check(p.ended() != 0 and path in p.words(), f"{flag}: {p.words()}")
        canaries.look(f"{flag}'s error", p.words())
    store.shutdown()


# Files that options name: what they hold is for all to see, or a secret that a test above or below has set.
PUBLIC = {"nats.ca.file", "nats.cert.file", "tls.cert.file", "tls.client_ca.file", "trace.ca.file", "store.s3.ca.file"}
SECRET = {"nats.credentials.file", "nats.nkey.file", "nats.password.file", "nats.key.file", "auth.keys.file", "audit.key.file",
          "encryption.keys.file", "tls.key.file", "trace.token.file", "store.encryption_key.file", "store.s3.access_key.file",
          "store.s3.secret_key.file", "store.s3.session_token.file"}


def test_secrets_of_a_cluster_are_found_nowhere_either(world):
    page = tool("config", "page")
    named = set(re.findall(r"^\| `([a-z0-9_.]+\.file)` ", page, re.M))
    check(named == PUBLIC | SECRET, f"an option that this file knows nothing of: {named ^ (PUBLIC | SECRET)}")

    canaries, keys = Canaries(world), Keys(world)
    operator = keys.new("read,write,admin", "*")
    canaries.all["operator"] = operator.split(".")[1]
    password = canaries.new("password")
    run = world.run

    def with_password(name, program, *args, **kw):
        if name == "nats":
            with open(world.path("nats.conf"), "a") as f:
                f.write(f'authorization {{ user: "koa", password: "{canaries.all["password"]}" }}\n')
        return run(name, program, *args, **kw)
    world.run = with_password
    flags = ["--log.level", "debug", "--log.requests", "all", *keys.flags, "--nats.user", "koa", "--nats.password.file", password,
             "--encryption.keys.file", canaries.key("folders"), "--store.encryption_key.file", canaries.key("objects"),
             "--ingestor.snapshot_interval", "1s"]
    cell = koa.Cluster(world, *flags)
    now = int(time.time() * 1000)
    body = koa.snappy(koa.rw1_series({"__name__": "m"}, [(now, 1.0)]))
    check(ask(f"{cell.push}/api/v1/write", body, {**koa.RW1, **bearer(operator)})[0] == 204, "push")
    for i in (0, 1):
        check(ask(f"{cell.url(f'ingestor-{i}')}/api/v1/admin/tsdb/flush", b"", bearer(operator))[0] == 204, "flush")
    services = [p for p in cell.processes if p.name != "nats"]
    for p in services:
        base = cell.url(p.name)
        for method, path in endpoints(base, operator):
            if "quit" in path:
                continue
            status, head, said = ask(f"{base}{path.replace('*', 'job')}?query=up&match[]=up&metric=up", b"" if method != "GET" else None,
                                     bearer(operator), method=method)
            canaries.look(f"{p.name}: {method} {path}", said + str(head).encode())
        with open(f"/proc/{p.child.pid}/cmdline", "rb") as f:
            canaries.look(f"{p.name}'s command line", f.read())
    check(b"password.secret" in ask(f"{cell.query}/config", headers=bearer(operator))[2], "/config names the file")

    # NATS is gone, and comes back with another password: what is said of that.
    cell.nats.kill()
    time.sleep(2)
    with open(world.path("nats.conf")) as f:
        words = f.read().replace(canaries.all["password"], "another")
    with open(world.path("nats.conf"), "w") as f:
        f.write(words)
    cell.nats.start()
    time.sleep(3)
    for p in services:
        p.may_be_gone = True
        canaries.look(f"{p.name}'s log", p.words())
        p.kill()
    for folder in ("store", "ingestor-0", "ingestor-1"):
        canaries.look_below(world.path(folder))

    # Secrets that are none.
    for flag, name in (("--nats.nkey.file", "nkey"), ("--nats.credentials.file", "credentials"), ("--nats.key.file", "nats-key")):
        more = ["--nats.nkey.public", "UAAA"] if name == "nkey" else []
        p = world.run(f"bad-{name}", os.path.join(koa.BIN, "querier"), "--listen", f"127.0.0.1:{koa.free_port()}", "--nats.url",
                      f"nats://127.0.0.1:{cell.nats_port}", "--store.dir", world.path("store-2"), "--nats.user", "x",
                      flag, canaries.new(name), *more)
        p.may_be_gone = True
        time.sleep(1.5)
        canaries.look(f"{flag}'s error", p.words())
        if p.alive():
            p.kill()
