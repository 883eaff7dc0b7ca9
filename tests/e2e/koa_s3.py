"""An S3 service for tests: Ceph's radosgw, started by the first test that wants it; and a line to cut."""
import atexit
import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import urllib.parse

import koa
from koa import check, eventually

_rgw = None


def _start_rgw():
    """Ceph's radosgw beside this run, unless the environment names one; started when first wanted."""
    global _rgw
    if _rgw is None and "KOA_S3_ENDPOINT" not in os.environ:
        here = os.path.dirname(os.path.abspath(__file__))
        _rgw = subprocess.Popen([os.path.join(here, "..", "rgw.sh"), os.path.dirname(koa.PEERS), sys.executable, "-c",
                                 "import os, sys, json\n"
                                 "print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('KOA_S3')}),"
                                 " flush=True)\nsys.stdin.read()"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)

        def stop():
            _rgw.stdin.close()
            _rgw.wait()
        atexit.register(stop)
        line = _rgw.stdout.readline()
        check(line, "tests/rgw.sh failed")
        os.environ.update(json.loads(line))
    ready = os.environ.get("KOA_S3_READY")
    if ready:
        eventually("radosgw answers", lambda: os.path.exists(ready), 300)
        with open(ready) as f:
            words = f.read()
        check(words == "up\n", words)


class S3:
    """A place of our own in the bucket of the S3 service, and a client to look into it: curl's."""

    def __init__(self, world, endpoint=None):
        _start_rgw()
        self.world = world
        self.real = os.environ["KOA_S3_ENDPOINT"]
        self.endpoint = endpoint or self.real
        self.bucket = os.environ["KOA_S3_BUCKET"]
        self.keys = os.environ["KOA_S3_ACCESS_KEY"], os.environ["KOA_S3_SECRET_KEY"]
        self.prefix = "e2e/" + os.urandom(8).hex()
        for name, key in zip(("access", "secret"), self.keys):
            with open(world.path(name), "w") as f:
                f.write(key + "\n")

    def flags(self, **instead):
        f = {"url": f"s3://{self.bucket}/{self.prefix}", "endpoint": self.endpoint,
             "access": self.world.path("access"), "secret": self.world.path("secret"), **instead}
        return ["--store.url", f["url"], "--store.s3.endpoint", f["endpoint"],
                "--store.s3.access_key.file", f["access"], "--store.s3.secret_key.file", f["secret"]]

    def _curl(self, path, *more, input=None):
        done = subprocess.run(["curl", "--noproxy", "*", "-sS", "-f", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user",
                               ":".join(self.keys), "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", *more,
                               f"{self.real}/{self.bucket}{path}"], input=input, capture_output=True)
        check(done.returncode == 0, f"curl {path}: {done.stderr.decode()}")
        return done.stdout

    def list(self, below=""):
        """{key: size}"""
        found, after = {}, ""
        while True:
            q = urllib.parse.quote(f"{self.prefix}/{below}", safe="")
            page = self._curl(f"?list-type=2&prefix={q}" + (f"&start-after={urllib.parse.quote(after, safe='')}"
                                                            if after else "")).decode()
            keys = re.findall(r"<Contents><Key>(.*?)</Key>.*?<Size>(\d+)</Size>", page)
            found.update({k[len(self.prefix) + 1:]: int(n) for k, n in keys})
            if "<IsTruncated>true" not in page:
                return found
            after = keys[-1][0]

    def get(self, key):
        return self._curl(f"/{self.prefix}/{urllib.parse.quote(key)}")

    def put(self, key, body):
        self._curl(f"/{self.prefix}/{urllib.parse.quote(key)}", "-X", "PUT", "-H", "Content-Type: application/octet-stream",
                   "--data-binary", "@-", input=body)

    def remove(self, key):
        self._curl(f"/{self.prefix}/{urllib.parse.quote(key)}", "-X", "DELETE")


class Line:
    """A port that leads to another one, and may be cut: what goes over it breaks, new ones are refused.
    With a certificate (and its key) it speaks TLS to whoever comes."""

    def __init__(self, world, target, certificate=None):
        self.target = urllib.parse.urlsplit(target)
        self.port = koa.free_port()
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}"
        self.tls = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*certificate)
        self.flowing = threading.Event()               # cleared: connections stay, nothing moves
        self.flowing.set()
        self.pairs, self.listener, self.lock = [], None, threading.Lock()
        self.join()
        world.callback(self.cut)

    def join(self):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(64)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def cut(self):
        self.flowing.set()
        with self.lock:
            if self.listener is not None:
                with contextlib.suppress(OSError):
                    self.listener.shutdown(socket.SHUT_RDWR)
                self.listener.close()
                self.listener = None
            for s in self.pairs:
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)
            self.pairs = []

    def _accept(self, listener):
        while True:
            try:
                a, _ = listener.accept()
            except OSError:
                return
            try:
                if self.tls is not None:
                    a = self.tls.wrap_socket(a, server_side=True)
                b = socket.create_connection((self.target.hostname, self.target.port))
            except OSError:                            # it did not trust us, or nobody is there
                a.close()
                continue
            with self.lock:
                self.pairs += [a, b]
            for x, y in ((a, b), (b, a)):
                threading.Thread(target=self._pump, args=(x, y), daemon=True).start()

    def _pump(self, x, y):
        with contextlib.suppress(OSError):
            while data := x.recv(1 << 16):
                self.flowing.wait()
                y.sendall(data)
        for s in (x, y):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
