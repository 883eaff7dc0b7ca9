#!/usr/bin/env python3
"""The recording of bench/storage.c through victoria-metrics and prometheus: bytes on disk per sample.

    bench/storage_peers.py bench/data/scrapes-1s.zst

Prints a JSON line for each that is installed. VictoriaMetrics: imported, flushed, force-merged, then
the size of its data folders. Prometheus: blocks made by promtool from OpenMetrics, as its compaction
makes them. Both in a folder that is removed; loopback only."""
import json, os, shutil, socket, subprocess, sys, tempfile, time, urllib.request


def load(path):
    text = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout.decode()
    jobs, lines = {}, iter(text.split("\n"))
    for line in lines:
        if line.startswith("T "):
            _, job, *steps = line.split(" ")
            at, times = 0, []
            for s in steps:
                at += int(s)
                times.append(at)
            jobs[job] = times
        elif line.startswith("S "):
            _, job, name = line.split(" ", 2)
            metric, _, rest = name.partition("{")
            rest = rest[:-1].rstrip(",")
            labels = (rest + "," if rest else "") + f'instance="{job}.example:9100",job="{job}"'
            samples, last = [], None
            for t, v in zip(jobs[job], next(lines).split(",")):
                if v == "_":
                    continue
                last = v or last
                samples.append((t, last))
            yield metric, "{" + labels + "}", samples


def size(folder):
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(folder) for f in fs)


def report(peer, folder, series, what):
    n = sum(len(s) for _, _, s in series)
    b = size(folder)
    print(json.dumps({"bench": "storage", "what": "peer", "peer": peer, "how": what, "bytes": b,
                      "bytes_per_sample": round(b / n, 4)}), flush=True)


def victoria(series, tmp):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    url, data = f"http://127.0.0.1:{port}", os.path.join(tmp, "vm")
    p = subprocess.Popen(["victoria-metrics", f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={data}",
                          "-retentionPeriod=1200", "-dedup.minScrapeInterval=0"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(url + "/health", timeout=1)
                break
            except OSError:
                time.sleep(0.2)
        for i in range(0, len(series), 50):
            body = "".join(f"{m}{l} {v} {t}\n" for m, l, s in series[i:i + 50] for t, v in s)
            urllib.request.urlopen(urllib.request.Request(url + "/api/v1/import/prometheus",
                                                          body.encode(), method="POST"), timeout=120)
        for path in ("/internal/force_flush", "/internal/force_merge"):
            urllib.request.urlopen(url + path, timeout=120)
            time.sleep(5)
        time.sleep(10)
    finally:
        p.terminate()
        p.wait(60)
    for extra in ("cache", "tmp"):
        shutil.rmtree(os.path.join(data, extra), ignore_errors=True)
    report("victoria-metrics", data, series, "after force_merge")


def prometheus(series, tmp):
    text, data = os.path.join(tmp, "in.om"), os.path.join(tmp, "prom")
    by_metric = {}
    for m, l, s in series:
        by_metric.setdefault(m, []).append((l, s))
    with open(text, "w") as f:
        for m in sorted(by_metric):
            f.write(f"# TYPE {m} unknown\n")
            for l, s in by_metric[m]:
                f.writelines(f"{m}{l} {v} {t / 1000:.3f}\n" for t, v in s)
        f.write("# EOF\n")
    subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", text, data], check=True,
                   stdout=subprocess.DEVNULL)
    report("prometheus", data, series, "blocks by promtool")


def main():
    series, tmp = list(load(sys.argv[1])), tempfile.mkdtemp(prefix="koa-peers-")
    try:
        for peer, run in (("victoria-metrics", victoria), ("promtool", prometheus)):
            if shutil.which(peer):
                run(series, tmp)
            else:
                print(json.dumps({"bench": "storage", "what": "peer", "peer": peer, "skipped": "not installed"}))
    finally:
        shutil.rmtree(tmp, ignore_errors=True)


main()
