"""Other servers that benchmarks are compared with, as Debian has them: each with its samples in a folder of its own."""
import os

import koa


def victoria(w, peers, *flags):
    """(process, port)"""
    port = koa.free_port()
    v = w.run("victoria-metrics", os.path.join(peers, "victoria-metrics"), f"-httpListenAddr=127.0.0.1:{port}",
              f"-storageDataPath={w.path('vm')}", "-retentionPeriod=100y", *flags)
    koa.eventually("victoria-metrics", lambda: koa.http(f"http://127.0.0.1:{port}/health")[0] == 200)
    return v, port


def prometheus(w, peers):
    """(process, port); it takes samples of the past, too."""
    port = koa.free_port()
    with open(w.path("p.yml"), "w") as f:
        f.write("global: {}\nstorage: {tsdb: {out_of_order_time_window: 3650d}}\n")
    v = w.run("prometheus", os.path.join(peers, "prometheus"), f"--config.file={w.path('p.yml')}",
              f"--storage.tsdb.path={w.path('p')}", "--web.enable-remote-write-receiver",
              f"--web.listen-address=127.0.0.1:{port}")
    koa.eventually("prometheus", lambda: koa.http(f"http://127.0.0.1:{port}/-/ready")[0] == 200)
    return v, port
