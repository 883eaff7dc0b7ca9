"""Bodies that come as NATS messages are taken as HTTP's are, and answered with HTTP's status."""
import gzip
import json
import os
import socket
import time

import koa
from koa import check, eventually, http, instant, one


class Nats:
    """As much of a NATS client as a test needs: publish with headers, ask and wait for the answer."""

    def __init__(self, port):
        self.plain(port)
        self.hello()

    def plain(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")
        self.info = json.loads(self.file.readline().split(b" ", 1)[1])

    def hello(self, **more):
        self.asked = 0
        self.inbox = "_INBOX.agent." + os.urandom(8).hex()
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, **more}
        self.send(f"CONNECT {json.dumps(options)}\r\n".encode())
        self.send(f"SUB {self.inbox}.* 1\r\n".encode())

    def send(self, data):
        self.socket.sendall(data)

    def publish(self, subject, body, headers=None, reply=None):
        target = f"{subject} {reply}" if reply else subject
        if headers:
            head = "NATS/1.0\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
            head = head.encode()
            self.send(f"HPUB {target} {len(head)} {len(head) + len(body)}\r\n".encode() + head + body + b"\r\n")
        else:
            self.send(f"PUB {target} {len(body)}\r\n".encode() + body + b"\r\n")

    def next(self):
        """(subject, body) of the next message; body None: nobody serves what was asked."""
        while True:
            words = self.file.readline().split()
            check(words, "NATS closed the connection")
            if words[0] == b"PING":
                self.send(b"PONG\r\n")
            elif words[0] == b"MSG":
                return words[1].decode(), self.file.read(int(words[-1]) + 2)[:-2]
            elif words[0] == b"HMSG":
                data = self.file.read(int(words[-1]) + 2)[:-2]
                return words[1].decode(), data[int(words[-2]):] if b" 503" not in data[:20] else None
            else:
                check(words[0] in (b"+OK", b"PONG", b"INFO"), f"NATS says {words}")

    def ask(self, subject, body, **headers):
        """(status, words)"""
        self.asked += 1
        inbox = f"{self.inbox}.{self.asked}"
        self.publish(subject, body, {k.replace("_", "-"): v for k, v in headers.items()}, inbox)
        while True:
            to, answer = self.next()
            if to == inbox:
                check(answer is not None, f"nobody serves {subject}")
                status, _, words = answer.decode().partition(" ")
                return int(status), words

    def close(self):
        self.socket.close()


def test_messages_are_taken_as_http_bodies_are_and_answered_with_their_status(world):
    ours = koa.Cluster(world)
    nats = Nats(ours.nats_port)
    now = int(time.time() * 1000)
    to = "koa.e2e.ingest.team-a"
    ask = lambda body, **headers: nats.ask(to, body, **headers)
    eventually("the doorman serves", lambda: ask(b"", Content_Type="text/plain")[0] == 204)

    rw1 = koa.snappy(koa.rw1_series({"__name__": "rw", "x": "1"}, [(now, 1.5)]))
    check(ask(rw1) == (204, ""), "remote write without a word about itself")
    check(ask(rw1, Content_Type="application/x-protobuf", Content_Encoding="snappy") == (204, ""), "remote write")
    check(ask(b"text 2\n", Content_Type="text/plain")[0] == 204, "text")
    check(ask(gzip.compress(b"packed 3\n"), Content_Type="text/plain", Content_Encoding="gzip")[0] == 204, "gzip")
    check(ask(b"# TYPE om gauge\nom 4\n# EOF\n", Content_Type="application/openmetrics-text")[0] == 204, "OpenMetrics")
    check(ask(json.dumps({"metric": {"__name__": "jl"}, "values": [5], "timestamps": [now]}).encode(),
              Content_Type="application/x-ndjson")[0] == 204, "JSON lines")
    check(ask(b"6,a\n", Content_Type="text/csv", Format="1:metric:csv,2:label:l")[0] == 204, "CSV")
    check(ask(f"influx f=7 {now // 1000}".encode(), Content_Type="text/x-influx-line", Database="d",
              Precision="s")[0] == 204, "Influx lines")
    otlp = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "otlp", "gauge": {"dataPoints": [
        {"asDouble": 8, "timeUnixNano": str(now * 1_000_000)}]}}]}]}]}
    check(ask(json.dumps(otlp).encode(), Content_Type="application/json")[0] == 204, "OTLP")
    want = {"rw": 1.5, "text": 2, "packed": 3, "om": 4, "jl": 5, "csv": 6, "influx_f": 7, "otlp": 8}
    def there():
        got = {dict(k)["__name__"]: v for k, v in
               instant(ours.query, '{__name__=~"' + "|".join(want) + '"}', tenant="team-a").items()}
        return got == want
    eventually("every form is read back", there)
    check(instant(ours.query, '{__name__!=""}') == {}, "another tenant has nothing")

    status, words = ask(b"good 1\nbad{ 2\n", Content_Type="text/plain")
    check(status == 400 and "1 refused, 1 stored" in words, f"{status} {words}")
    check(ask(b"x", Content_Type="text/html")[0] == 415, "a type that is none")
    check(ask(b"x", Content_Type="text/plain", Content_Encoding="br")[0] == 415, "a coding that is none")
    check(ask(b"x", Content_Type="text/plain", Content_Encoding="gzip")[0] == 400, "no gzip")
    check(ask(b"\xff\xff\xff\xff\x0fabc")[0] == 413, "a snappy bomb")
    check(ask(b"1,a\n", Content_Type="text/csv")[0] == 400, "CSV without a format")
    check(ask(b"m f=1", Content_Type="text/x-influx-line", Precision="week")[0] == 400, "a unit that is none")

    # Tenants: dots are fine, what would be a path or too long is not.
    check(nats.ask("koa.e2e.ingest.a.b-c_d", b"dotted 1\n", Content_Type="text/plain")[0] == 204, "a tenant with dots")
    eventually("its sample", lambda: one(ours.query, "dotted", tenant="a.b-c_d") == 1)
    for name in ("a/b", "x" * 151, "a\u00fcb", "a$b"):
        status, words = nats.ask(f"koa.e2e.ingest.{name}", b"x 1\n", Content_Type="text/plain")
        check(status == 400 and "a tenant is" in words, f"tenant {name!r}: {status} {words}")

    # Nobody wants the answer: it is taken all the same.
    nats.publish(to, b"quiet 9\n", {"Content-Type": "text/plain"})
    eventually("a push without a reply subject", lambda: one(ours.query, "quiet", tenant="team-a") == 9)
    metrics = http(f"{ours.push}/metrics")[2].decode()
    count = [l for l in metrics.splitlines() if l.startswith("koalemos_doorman_messages_total ")]
    check(count and float(count[0].split()[1]) > 20, f"counted: {count}")


def test_two_doormen_share_messages_and_one_that_goes_loses_none(world):
    ours = koa.Cluster(world)
    second = ours.second_doorman()
    nats = Nats(ours.nats_port)
    to, now = "koa.e2e.ingest.anonymous", int(time.time() * 1000)
    eventually("a doorman serves", lambda: nats.ask(to, b"", Content_Type="text/plain")[0] == 204)
    for k in range(400):                               # many at once, then their answers
        if k == 200:
            second.stop()
        nats.publish(to, f"many{{n=\"{k % 20}\"}} {k} {now + k}\n".encode(), {"Content-Type": "text/plain"},
                     f"{nats.inbox}.{k}")
    answers = {}
    while len(answers) < 400:
        subject, answer = nats.next()
        if subject.startswith(nats.inbox):
            answers[int(subject.rsplit(".", 1)[1])] = (answer or b"503 nobody").decode()
    again = [k for k, a in answers.items() if a != "204"]
    check(all(answers[k].startswith("503") for k in again), f"{[answers[k] for k in again][:3]}")
    for k in again:                                    # as an agent would
        check(nats.ask(to, f"many{{n=\"{k % 20}\"}} {k} {now + k}\n".encode(), Content_Type="text/plain")[0] == 204,
              "sent again")
    eventually("every sample is there once", lambda: instant(
        ours.query, "sum(count_over_time(many[1m]))", now / 1000 + 2) == {(): 400.0})
    served = lambda name: [float(l.split()[1]) for l in http(f"{ours.url(name)}/metrics")[2].decode().splitlines()
                           if l.startswith("koalemos_doorman_messages_total ")]
    check(served("doorman")[0] >= 200, "the one that stayed served the rest")


def test_messages_without_end_leave_the_doorman_small_and_alive(world):
    ours = koa.Cluster(world, "--limits.inflated_bytes_max=2MiB")
    nats = Nats(ours.nats_port)
    to = "koa.e2e.ingest.anonymous"
    eventually("the doorman serves", lambda: nats.ask(to, b"", Content_Type="text/plain")[0] == 204)
    body = b"#" * 900_000
    for k in range(300):                               # 270 MB, faster than they are read
        nats.publish(to, body, {"Content-Type": "text/plain"}, f"{nats.inbox}.0")
    for k in range(300):
        nats.publish(to, gzip.compress(bytes(3 << 20)), {"Content-Type": "text/plain", "Content-Encoding": "gzip"},
                     f"{nats.inbox}.0")
    peak = 0
    end = time.monotonic() + 3
    while time.monotonic() < end:
        peak = max(peak, ours.doorman.resident_bytes())
        time.sleep(0.05)
    check(peak < 512 << 20, f"the doorman grew to {peak >> 20} MiB")
    fresh = Nats(ours.nats_port)
    eventually("it still serves", lambda: fresh.ask(to, b"alive 1\n", Content_Type="text/plain")[0] == 204)
