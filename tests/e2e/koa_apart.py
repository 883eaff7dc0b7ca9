"""Servers that can be cut off: each in a network namespace of its own, behind a bridge. Namespaces are nameless and end
with the processes in them, so nothing is left behind. Where they may not be made, a server that is cut off stands still
on loopback, its connections open, and the test says so."""
import contextlib
import ctypes
import os
import signal
import subprocess

from koa import check, eventually

CLONE_NEWNET = 0x40000000
NETWORK = "198.18.0"                                   # kept for tests by RFC 2544


def _ip(*args, holder=None):
    inside = ["nsenter", f"--net=/proc/{holder}/ns/net"] if holder else []
    out = subprocess.run([*inside, "ip", *args], capture_output=True, text=True)
    check(out.returncode == 0, f"ip {' '.join(args)}: {out.stderr}")


def possible():
    """Where this cannot be done, why."""
    if os.geteuid() != 0:
        return "not root"
    try:
        out = subprocess.run(["unshare", "--net", "ip", "link", "add", "koa0", "type", "bridge"], capture_output=True, text=True)
    except OSError as e:
        return str(e)
    return None if out.returncode == 0 else out.stderr.strip()


class Loopback:
    """All on one address; the plain case."""
    cuts_links = False

    def address(self, i):
        return "127.0.0.1"

    def inside(self, i):
        return []

    def cut(self, i, server):
        server.child.send_signal(signal.SIGSTOP)

    def mend(self, i, server):
        server.child.send_signal(signal.SIGCONT)


class Apart(contextlib.ExitStack):
    """`count` places behind a bridge, in a network that this thread, and whom it starts, live in until the World ends."""
    cuts_links = True

    def __init__(self, world, count):
        super().__init__()
        libc = ctypes.CDLL(None, use_errno=True)
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        check(libc.unshare(CLONE_NEWNET) == 0, f"unshare: {os.strerror(ctypes.get_errno())}")
        self.callback(os.close, before)
        self.callback(libc.setns, before, CLONE_NEWNET)
        world.enter_context(self)
        here = os.readlink("/proc/thread-self/ns/net")
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "koa0", "type", "bridge")
        _ip("addr", "add", f"{NETWORK}.1/24", "dev", "koa0")
        _ip("link", "set", "koa0", "up")
        self.holders = []
        for i in range(count):
            holder = world.run(f"net-{i}", "unshare", "--net", "sleep", "infinity").child.pid
            eventually("a namespace is there", lambda: os.readlink(f"/proc/{holder}/ns/net") != here, 20, 0.02)
            _ip("link", "add", f"koa0p{i}", "type", "veth", "peer", "name", "eth0", "netns", str(holder))
            _ip("link", "set", f"koa0p{i}", "master", "koa0", "up")
            _ip("link", "set", "lo", "up", holder=holder)
            _ip("addr", "add", f"{self.address(i)}/24", "dev", "eth0", holder=holder)
            _ip("link", "set", "eth0", "up", holder=holder)
            self.holders.append(holder)

    def address(self, i):
        return f"{NETWORK}.{10 + i}"

    def inside(self, i):
        return ["nsenter", f"--net=/proc/{self.holders[i]}/ns/net"]

    def cut(self, i, server):
        _ip("link", "set", f"koa0p{i}", "down")

    def mend(self, i, server):
        _ip("link", "set", f"koa0p{i}", "up")


def apart(world, count):
    why = possible()
    if why is None:
        return Apart(world, count)
    print(f"       no network namespaces here ({why}): a server that is cut off stands still instead", flush=True)
    return Loopback()
