"""TLS of both listeners: what is spoken, what is refused, certificates that change while it runs."""
import json
import os
import socket
import ssl
import subprocess

import koa
from koa import check, eventually
from test_otlp import export as otlp_export


def openssl(*args, status=0, **kw):
    p = subprocess.run(["openssl", *args], capture_output=True, timeout=60, **kw)
    check(status is None or p.returncode == status, f"openssl {args}: {p.returncode} {p.stderr[-500:]!r}")
    return p


class Ca:
    """A CA and what it signs, in a folder."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.crt, self.key = self.path("ca.crt"), self.path("ca.key")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key, "-out",
                self.crt, "-days", "30", "-subj", "/CN=ca")

    def path(self, name):
        return os.path.join(self.folder, name)

    def sign(self, name, usage="serverAuth", key=("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), as_name=None):
        """Paths of certificate and key."""
        crt, secret, csr, more = (self.path(f"{as_name or name}.{e}") for e in ("crt", "key", "csr", "ext"))
        openssl("req", "-newkey", *key, "-nodes", "-keyout", secret, "-out", csr, "-subj", f"/CN={name}")
        with open(more, "w") as f:
            f.write(f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        openssl("x509", "-req", "-in", csr, "-CA", self.crt, "-CAkey", self.key, "-CAcreateserial", "-days", "30", "-out",
                crt + ".new", "-extfile", more)
        os.rename(crt + ".new", crt)
        return crt, secret


class Secure(koa.Serve):
    def __init__(self, world, ca, *flags, cert=None, **kw):
        self.ca = ca
        self.cert, self.key = cert or ca.sign("server")
        super().__init__(world, "--tls.cert.file", self.cert, "--tls.key.file", self.key, *flags, ready=False, **kw)
        self.push = self.query = self.flush = f"https://127.0.0.1:{self.port}"
        eventually("ready", lambda: self.ask("/-/ready")[0] == 200)

    def connect(self, client=None, ca=None):
        context = ssl.create_default_context(cafile=(ca or self.ca).crt)
        if client:
            context.load_cert_chain(*client)
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.port), timeout=30), server_hostname="localhost")

    def ask(self, path, body=None, client=None, headers="", s=None):
        """(status, body) of one request on a connection of its own, or on `s`, which stays open."""
        own = s is None
        s = s or self.connect(client)
        length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
        s.sendall(f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: x\r\n{headers}{length}"
                  f"{'Connection: close' if own else 'X-Y: z'}\r\n\r\n".encode() + (body or b""))
        f = s.makefile("rb")
        status = int(f.readline().split()[1])
        size, chunked = None, False
        while (line := f.readline().strip().lower()):
            if line.startswith(b"content-length:"):
                size = int(line.split()[1])
            chunked |= line == b"transfer-encoding: chunked"
        if chunked:
            pieces = []
            while (n := int(f.readline(), 16)) > 0:
                pieces.append(f.read(n))
                f.readline()
            f.readline()
            data = b"".join(pieces)
        else:
            data = b"" if status == 204 else f.read(size if size is not None else -1)
        if own:
            s.close()
        return status, data


def try_openssl(port, *args):
    """What was agreed: "TLSv1.3 TLS_AES_256_GCM_SHA384", or "" where nothing was."""
    p = openssl("s_client", "-connect", f"127.0.0.1:{port}", *args, status=None, input=b"")
    for line in p.stdout.decode(errors="replace").splitlines():
        if line.startswith("New, TLS") and "NONE" not in line:
            return line
    return ""


GOOD = {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"}


def scan(port, *more):
    """The good suites that a server agrees to, each offered alone. All others together are refused, and so is
    what was before TLS 1.2."""
    for old in ("-tls1", "-tls1_1"):
        check(not try_openssl(port, old, "-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0", *more), f"{old} is spoken")
    suites = openssl("ciphers", "ALL:COMPLEMENTOFALL:@SECLEVEL=0").stdout.decode().strip().split(":")
    bad_3 = [s for s in suites if s.startswith("TLS_") and s not in GOOD]
    bad_2 = [s for s in suites if not s.startswith("TLS_") and s not in GOOD]
    check(len(bad_2) > 50, f"openssl knows only {len(bad_2)} others")
    check(not try_openssl(port, "-tls1_2", "-cipher", ":".join(bad_2) + ":@SECLEVEL=0", *more), "a bad suite of TLS 1.2")
    check(not try_openssl(port, "-tls1_3", "-ciphersuites", ":".join(bad_3 + ["TLS_AES_128_CCM_SHA256"]), *more), "of 1.3")
    taken = set()
    for suite in sorted(GOOD):
        way = ("-tls1_3", "-ciphersuites", suite) if suite.startswith("TLS_") else ("-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
        if try_openssl(port, *way, *more):
            taken.add(suite)
    check({"TLS_AES_256_GCM_SHA384"} < taken, f"taken: {taken}")
    check(not try_openssl(port, "-tls1_2", "-curves", "brainpoolP256r1", *more), "a curve that is none of ours")
    return taken


def test_both_listeners_speak_tls_1_2_and_1_3_with_good_suites_and_nothing_else(world):
    grpc, ca = koa.free_port(), Ca(world.path("ca"))
    serve = Secure(world, ca, "--otlp.grpc_listen", f"127.0.0.1:{grpc}", cert=ca.sign("rsa", key=("rsa:2048",)))
    check("ECDHE-RSA-AES256-GCM-SHA384" in scan(serve.port), "a client with TLS 1.2 and RSA")
    check("TLS_AES_128_GCM_SHA256" in scan(grpc, "-alpn", "h2"), "gRPC")
    check(not try_openssl(grpc, "-alpn", "http/1.1"), "gRPC is HTTP/2")
    for port in (serve.port, grpc):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
            s.sendall(b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                check(b"200" not in s.recv(100), "cleartext is answered")
            except ConnectionResetError:
                pass
    # Renegotiation that a client begins, as a way to keep a server busy.
    p = openssl("s_client", "-connect", f"127.0.0.1:{serve.port}", "-tls1_2", input=b"R\nR\n", status=None)
    check(b"RENEGOTIATING" in p.stderr and b"verify return" not in p.stderr.split(b"RENEGOTIATING")[-1], f"{p.stderr}")
    check(serve.ask("/-/ready")[0] == 200, "and goes on")


def test_pushes_and_questions_of_all_sizes_go_through_tls(world):
    grpc, ca = koa.free_port(), Ca(world.path("ca"))
    serve = Secure(world, ca, "--otlp.grpc_listen", f"127.0.0.1:{grpc}")
    with serve.connect() as s:                         # one connection, kept
        for k in range(5):
            body = "".join(f'm{{k="{k}",n="{n}",x="{"y" * 100}"}} 1\n' for n in range(20000)).encode()
            status, words = serve.ask("/api/v1/import/prometheus", body, s=s)
            check(status == 204, f"{status} {words[:200]}")
        status, body = serve.ask("/api/v1/query?query=count(m)", s=s)
        check(json.loads(body)["data"]["result"][0]["value"][1] == "100000", f"{body[:300]}")
        status, body = serve.ask("/api/v1/query?query=m", s=s)
        check(status == 200 and len(json.loads(body)["data"]["result"]) == 100000, "a large answer, poured")
        check(len(body) > 10_000_000, f"{len(body)}")
    half = serve.connect()                             # who leaves in the middle harms nobody
    half.sendall(b"GET /api/v1/query?query=m HTTP/1.1\r\nHost: x\r\n\r\n")
    half.recv(100)
    half.close()
    dawdler = socket.create_connection(("127.0.0.1", serve.port))
    other = socket.create_connection(("127.0.0.1", grpc))
    os.environ["KOA_CA"] = ca.crt
    try:
        otlp_export("grpc", f"https://localhost:{grpc}", "cumulative", "gzip", "honest")
    finally:
        del os.environ["KOA_CA"]
    status, body = serve.ask("/api/v1/query?query=e2e_queue", headers="X-Scope-OrgID: honest\r\n")
    check(json.loads(body)["data"]["result"][0]["value"][1] == "10", f"{body[:300]}")
    dawdler.close()
    other.close()


def test_a_handshake_that_dawdles_is_ended_however_often_a_byte_comes(world):
    serve = Secure(world, Ca(world.path("ca")), "--http.idle_timeout", "2s")
    hello = bytes.fromhex("1603010200010001fc0303") + bytes(500)
    dawdlers = [socket.create_connection(("127.0.0.1", serve.port)) for _ in range(2)]

    def is_ended(s):
        s.setblocking(False)
        try:
            return s.recv(100) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    ended, sent = [False, False], 0

    def look():
        nonlocal sent
        if not ended[1]:
            try:
                dawdlers[1].send(hello[sent:sent + 1])
                sent += 1
            except ConnectionError:
                ended[1] = True
        for i, s in enumerate(dawdlers):
            ended[i] = ended[i] or is_ended(s)
        return all(ended)
    eventually("both are ended", look)
    check(sent < len(hello), "all of it was sent")


def test_certificates_change_while_it_runs_and_a_bad_pair_changes_nothing(world):
    ca, other = Ca(world.path("ca")), Ca(world.path("other"))
    serve = Secure(world, ca)
    kept = serve.connect()
    serial = lambda: serve.connect().getpeercert()["serialNumber"]
    before = serial()
    ca.sign("server")                                  # new key and certificate, in the same places
    eventually("the new one is shown", lambda: serial() != before)
    check(serve.ask("/-/ready", s=kept)[0] == 200, "a connection of before goes on")
    now = serial()
    with open(serve.cert, "w") as f:
        f.write("no certificate\n")
    eventually("it says so", lambda: "tls" in serve.process.words().lower() and "stays in force" in serve.process.words())
    check(serial() == now, "the good one stays")
    crt, key = other.sign("x")
    p = koa.Serve(world, "--tls.cert.file", crt, "--tls.key.file", serve.key, name="second", data=world.path("second"), ready=False).process
    check(p.ended() != 0 and "x.crt" in p.words(), p.words())
    p = koa.Serve(world, "--tls.cert.file", crt, name="third", data=world.path("third"), ready=False).process
    check(p.ended() != 0 and "tls.key.file" in p.words(), p.words())


def test_keys_that_cannot_be_read_do_not_keep_certificates_from_being_replaced(world):
    ca, keys = Ca(world.path("ca")), world.path("keys")
    subprocess.run([os.path.join(koa.BIN, "koalemos"), "key", "new", "--file", keys, "--roles", "read", "--tenants", "a"],
                   check=True, capture_output=True, timeout=60)
    serve = Secure(world, ca, "--auth.keys.file", keys)
    serial = lambda: serve.connect().getpeercert()["serialNumber"]
    before = serial()
    with open(keys, "a") as f:
        f.write("x\n")
    eventually("it says so", lambda: "auth.keys.file" in serve.process.words() and "stays in force" in serve.process.words())
    ca.sign("server")
    eventually("the new one is shown", lambda: serial() != before)
    with open(serve.cert, "w") as f:
        f.write("no certificate\n")
    eventually("of both", lambda: any("server.crt" in line and "auth.keys.file" in line for line in serve.process.words().splitlines()))


def test_clients_show_certificates_where_they_are_asked(world):
    grpc, ca, other = koa.free_port(), Ca(world.path("ca")), Ca(world.path("other"))
    serve = Secure(world, ca, "--tls.client_ca.file", ca.crt, "--otlp.grpc_listen", f"127.0.0.1:{grpc}")
    good, server = ca.sign("client", "clientAuth"), ca.sign("wrong-use")
    check(serve.ask("/api/v1/labels", client=good)[0] == 200, "a good one")
    check(serve.ask("/-/healthy")[0] == 200, "health is for all")
    for client in (None, other.sign("stranger", "clientAuth"), server):
        status, words = serve.ask("/api/v1/labels", client=client)
        check(status == 401 and b"client certificate" in words, f"{client}: {status} {words}")
    os.environ["KOA_CA"] = ca.crt
    try:
        otlp_export("grpc", f"https://localhost:{grpc}", "cumulative", "none", "t")
        status, body = serve.ask("/api/v1/labels", client=good, headers="X-Scope-OrgID: t\r\n")
        check(json.loads(body)["data"] == [], "gRPC without one")
        os.environ["KOA_CLIENT"] = good[0].removesuffix(".crt")
        otlp_export("grpc", f"https://localhost:{grpc}", "cumulative", "none", "t")
        status, body = serve.ask("/api/v1/labels", client=good, headers="X-Scope-OrgID: t\r\n")
        check(json.loads(body)["data"] != [], "gRPC with one")
    finally:
        os.environ.pop("KOA_CLIENT", None)
        del os.environ["KOA_CA"]


def test_every_service_of_a_cluster_speaks_the_same_on_every_port(world):
    ca = Ca(world.path("ca"))
    cert, key = ca.sign("server")
    cell = koa.Cluster(world, "--tls.cert.file", cert, "--tls.key.file", key, ready=False)
    for name, port in cell.ports.items():
        eventually(f"{name} listens", lambda: try_openssl(port, "-tls1_3"))
        check("ECDHE-ECDSA-AES128-GCM-SHA256" in scan(port), name)
        p = openssl("s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", ca.crt, "-verify_return_error", "-tls1_2", input=b"", status=None)
        said = p.stdout.decode()
        for words in ("Verify return code: 0 (ok)", "Compression: NONE", "Secure Renegotiation IS supported", "Server Temp Key: X25519"):
            check(words in said, f"{name}: not {words}: {said[-1500:]}")
