"""What benchmarks of queries share: hosts as node_exporter tells of them, how they are pushed, and what CPU a process took."""
import glob
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import koa  # noqa: E402

MODES, STEP = ["idle", "user", "system", "iowait", "nice", "irq", "softirq", "steal"], 15


def modes_of(draw, host, times):
    """(labels, samples) of a host's CPU in each mode."""
    for mode in MODES:
        v, samples = draw.random() * 1e5, []
        for t in times:
            v += draw.random() * STEP / len(MODES)
            samples.append((t, round(v, 2)))
        yield {"__name__": "node_cpu_seconds_total", "mode": mode, "cpu": "0", "job": "node", "instance": f"host-{host}:9100"}, samples


def load(base, data):
    for i in range(0, len(data), 100):
        for _ in range(200):
            status, words = koa.push(base, data[i:i + 100])
            if status in (200, 204):
                break
            time.sleep(0.1)
        koa.check(status in (200, 204), f"push: {status} {words}")


def cpu_seconds(process):
    """To the nanosecond, of the threads there are: none of ours, and few of theirs, end meanwhile."""
    total = 0
    for path in glob.glob(f"/proc/{process.child.pid}/task/*/schedstat"):
        try:
            with open(path) as f:
                total += int(f.read().split()[0])
        except FileNotFoundError:
            pass
    return total / 1e9
