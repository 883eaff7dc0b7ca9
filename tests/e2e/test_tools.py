"""`koalemos inspect` and `koalemos verify`: what a folder holds is told truly, and what is bad in it is named."""
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import koa
from koa import check

SERIES, SAMPLES = 30, 250


def tool(*args):
    """(exit status, stdout, stderr)"""
    p = subprocess.run([os.path.join(koa.BIN, "koalemos"), *args], capture_output=True, text=True, timeout=120)
    return p.returncode, p.stdout, p.stderr


def filled(world):
    """The data folder of a server that flushed twice and was stopped."""
    ours = koa.Serve(world)
    begin = int(time.time() * 1000) - 3_600_000
    for half in (0, 1):
        status, words = koa.push(ours.push, [
            ({"__name__": f"metric_{i % 3}", "n": str(i)},
             [(begin + (half * SAMPLES + k) * 1000, float(k * i)) for k in range(SAMPLES)]) for i in range(SERIES)])
        check(status == 204, f"push: {status} {words}")
        ours.flush_all()
    check(ours.process.stop() == 0, "serve does not stop")
    return world.path("data")


def test_inspect_counts_what_was_pushed_and_its_bytes_are_those_on_disk(world):
    data = filled(world)
    status, out, err = tool("inspect", data, "--json")
    check(status == 0, f"inspect: {status} {err}")
    told = json.loads(out)
    total = told["total"]
    check(total["samples"] == 2 * SERIES * SAMPLES, f"samples: {total}")
    check(sum(c["samples"] for c in total["codecs"]) == total["samples"], f"by codec: {total['codecs']}")
    check(sum(f["samples"] for f in told["filesets"]) == total["samples"], "by fileset")
    check(sum(total["files"].values()) == total["bytes"], f"by file: {total}")
    check(all(c["codec"] not in ("corrupt", "?") for c in total["codecs"]), f"codecs: {total['codecs']}")
    # A store has the same bytes in three objects, with a footer of 72 bytes to meta.
    for f in told["filesets"]:
        folder = os.path.join(data, f["root"], f["path"])
        there = sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder))
        check(there == f["bytes"] + (72 if f["stored"] else 0), f"{f['path']}: {there} bytes, told {f['bytes']}")
    status, out, err = tool("inspect", data)
    check(status == 0 and f"{total['samples']} samples" in out and "decimal/" in out, f"text: {out[-800:]} {err}")
    check("%" not in err, f"progress that nobody asked for: {err}")
    status, out, err = tool("inspect", data, "--progress")
    check("100 %" in err, f"no progress: {err}")


def test_verify_names_a_flipped_byte_and_a_cut_in_any_object(world):
    data = filled(world)
    status, out, err = tool("verify", data)
    check(status == 0, f"verify of a good folder: {status} {out} {err}")
    folder = sorted(glob.glob(os.path.join(data, "store", "anonymous", "*", "*")))[0]
    name = os.path.relpath(folder, os.path.join(data, "store"))
    other = os.path.relpath(sorted(glob.glob(os.path.join(data, "store", "anonymous", "*", "*")))[1],
                            os.path.join(data, "store"))
    manifest = sorted(glob.glob(os.path.join(data, "store", "catalogue", name.split("/")[1], "*")))[-1]
    objects = [os.path.join(folder, n) for n in ("data", "meta", "checkpoint")] + [manifest]
    for path in objects:
        with open(path, "rb") as f:
            good = f.read()
        for at in {0, len(good) // 3, len(good) // 2, len(good) - 1}:
            bad = bytearray(good)
            bad[at] ^= 0x10
            with open(path, "wb") as f:
                f.write(bad)
            status, out, err = tool("verify", data)
            says = os.path.relpath(path, os.path.join(data, "store")) if path == manifest else name
            check(status == 1, f"{path}, byte {at} flipped: {status} {out}")
            check(any(line.startswith("bad: ") and says in line for line in out.splitlines()), f"not named: {out}")
        for size in (0, 1, len(good) // 2, len(good) - 1):
            with open(path, "wb") as f:
                f.write(good[:size])
            status, out, err = tool("verify", data)
            check(status == 1, f"{path} cut to {size}: {status} {out}")
        with open(path, "wb") as f:
            f.write(good)
    check(tool("verify", data)[0] == 0, "verify of the folder as it was")
    os.remove(os.path.join(folder, "data"))
    status, out, err = tool("verify", data)
    check(status == 1 and f"bad: {name}" in out, f"without data: {status} {out}")
    shutil.rmtree(folder)
    status, out, err = tool("verify", data)
    check(status == 1 and f"missing: {name}" in out, f"without the fileset: {status} {out}")
    shutil.copytree(os.path.join(data, "store", other), os.path.join(data, "store", other + ".5"))
    os.makedirs(os.path.join(data, "store", "anonymous"), exist_ok=True)
    status, out, err = tool("verify", data)
    check(f"in no catalogue: {other}.5" in out and f"bad: {other}.5" in out, f"a copy under another name: {out}")
    # Unfinished is no fault: it is what a crash leaves.
    os.makedirs(folder)
    with open(os.path.join(folder, "data"), "wb") as f:
        f.write(b"half")
    check(f"unfinished" in tool("verify", data)[1], "an unfinished fileset is not told")


def test_wrong_usage_of_the_tools_is_told(world):
    for args in (["inspect"], ["verify"], ["verify", world.path("none")], ["inspect", "--nonsense", world.folder],
                 ["verify", "--json", world.folder], ["inspect", world.folder, world.folder]):
        status, out, err = tool(*args)
        check(status == 2 and err != "", f"{args}: {status} {out} {err}")
    check(tool("verify", world.folder)[0] == 0, "an empty folder has nothing bad in it")
    check(tool("inspect", "--help")[0] == 0 and tool("verify", "--help")[0] == 0, "help")


def test_a_catalogue_of_a_folder_that_is_not_there_is_not_rebuilt(world):
    data = world.path("mistyped")
    status, out, err = tool("catalog", "rebuild", "--data-dir", data)
    check(status == 1 and out == "" and f"data-dir {data}: " in err, f"{status} {out} {err}")
    check(not os.path.exists(data), "a folder was made in the place of one that is not there")
    os.mkdir(data)                                     # one that no server ever had, as a mount that is away
    status, out, err = tool("catalog", "rebuild", "--data-dir", data)
    check(status == 1 and out == "" and f"data-dir {data}: " in err and os.listdir(data) == [], f"{status} {out} {err} {os.listdir(data)}")
    # The disk of a server is lost whose objects are elsewhere: its folder is made.
    store = world.path("store")
    os.mkdir(store)
    status, out, err = tool("catalog", "rebuild", "--data-dir", data, "--store.url", f"dir:{store}")
    check(status == 0 and out == "the store has no partition: nothing was rebuilt\n", f"{status} {out} {err}")


def test_a_command_that_waits_is_ended_by_ctrl_c(world):
    data = filled(world)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for number in (signal.SIGINT, signal.SIGTERM):
            p = subprocess.Popen([os.path.join(koa.BIN, "koalemos"), "backup", "--to", world.path("backup"), "--data-dir", data,
                                  "--flush", f"http://127.0.0.1:{silent.getsockname()[1]}"])
            try:
                silent.settimeout(30)
                with silent.accept()[0]:               # it asks, and waits for an answer that does not come
                    p.send_signal(number)
                    check(p.wait(30) == -number, f"{number}: it ended with {p.returncode}")
            except subprocess.TimeoutExpired:
                raise koa.Failed(f"{number} does not end a command")
            finally:
                p.kill()
                p.wait()


def test_cluster_init_with_more_replicas_than_servers_says_so(world):
    port = koa.free_port()
    with open(world.path("nats.conf"), "w") as f:
        f.write(f'host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: "{world.path("nats")}" }}\n')
    world.run("nats", koa.nats_server(), "-c", world.path("nats.conf"))
    words = ""

    def told():                                        # it may be out of reach at first
        nonlocal words
        status, _, words = tool("cluster", "init", "--nats.url", f"nats://127.0.0.1:{port}", "--bus.timeout", "2s")
        check(status == 1, f"{status} {words}")
        return "cannot be made" in words
    try:
        koa.eventually("what is wrong is told", told)
    except koa.Failed:
        raise koa.Failed(f"it is not told what is wrong: {words}")
    check("log.replicas is 3" in words and "we are not to make it" not in words, words)


def test_help_is_asked_for_by_h_as_well_and_names_what_a_cluster_can_be_told(world):
    status, out, err = tool("-h")
    check(status == 0 and err == "" and out == tool("--help")[1], f"{status} {out} {err}")
    verbs = {line.split()[0] for line in tool("cluster", "--help")[1].splitlines() if line.startswith("  ") and line[2] != " "}
    check({"init", "repair"} <= verbs, f"{verbs}")
    missing = sorted(verb for verb in verbs if verb not in out.split("  overrides ")[0].split("  cluster ")[1])
    check(missing == [], f"of cluster these are not named: {missing}")


def test_a_servers_address_may_end_in_a_slash(world):
    ours = koa.Serve(world)
    check(koa.push(ours.push, [({"__name__": "one"}, [(int(time.time() * 1000), 1.0)])])[0] == 204, "push")
    data = world.path("data")
    for args in (["overrides", "get", "--url"], ["export", "--url"], ["backup", "--to", world.path("backup"), "--data-dir", data, "--flush"]):
        status, out, err = tool(*args, ours.push + "/")
        check(status == 0, f"{args}: {status} {out} {err}")
    status, out, err = tool("export", "--url", ours.push + "/", "--format", "openmetrics")
    check(status == 0 and "one 1 " in out, f"{out} {err}")
    os.makedirs(world.path("tsdb"))
    with open(world.path("all.om"), "w") as f:
        f.write(out)
    subprocess.run([os.path.join(koa.PEERS, "promtool"), "tsdb", "create-blocks-from", "openmetrics", world.path("all.om"),
                    world.path("tsdb")], check=True, capture_output=True)
    status, out, err = tool("import", "--prometheus", world.path("tsdb"), "--data-dir", data, "--server", ours.push + "/")
    check(status == 0 and "1 blocks taken" in out + err, f"{status} {out} {err}")


def test_an_export_says_what_of_its_flags_has_no_effect(world):
    for args, words in ((["--columns", "job"], "--columns and --header are of --format csv"),
                        (["--format", "openmetrics", "--header"], "--columns and --header are of --format csv"),
                        (["--format", "csv", "--columns", ""], "--columns names none"),
                        (["--match", "up"] * 65, "at most 64 times")):
        status, out, err = tool("export", "--url", f"http://127.0.0.1:{koa.free_port()}", *args)
        check(status == 2 and out == "" and words in err and err.count("\n") == 1, f"{args[:4]}: {status} {out} {err}")


def test_an_export_from_where_no_server_is_says_so_and_what_to_do(world):
    status, out, err = tool("export", "--url", f"http://127.0.0.1:{koa.free_port()}")
    lines = err.splitlines()
    check(status == 1 and out == "" and len(lines) == 3, f"{status} {out} {err}")
    check(lines[0].endswith("; trying again"), f"the first failure: {err}")
    check("no server is there (--url URL says where one is" in lines[1], err)


def test_wrong_usage_of_an_export_is_told(world):
    for args, said in ((["--match"], "--match wants a value"), (["--match", "up"] * 65, "at most 64 times"), (["--nonsense"], "nonsense"),
                       (["--slice", "soon"], "--slice"), (["--format", "xml"], "--format"), (["--start", "2", "--end", "1"], "in order")):
        status, out, err = tool("export", *args)
        check(status == 2 and out == "" and said in err, f"{args}: {status} {out} {err}")


def test_serve_says_in_one_line_why_it_cannot_listen(world):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        for listener in (["--listen", at], ["--listen", "127.0.0.1:0", "--otlp.grpc_listen", at]):
            status, out, err = tool("serve", "--data-dir", world.path("data"), *listener)
            warned = [line for line in err.splitlines() if "Z info " not in line]
            check(status == 1 and len(warned) == 1 and f"cannot listen on {at}: Address already in use" in warned[0],
                  f"{listener}: {status} {err}")
    for at in ("nonsense", "127.0.0.1:99999"):
        for listener in ("--listen", "--otlp.grpc_listen"):
            status, out, err = tool("serve", "--data-dir", world.path("none"), listener, at)
            check(status == 2 and err.count("\n") == 1 and f'cannot listen on "{at}": it should read host:port' in err,
                  f"{listener} {at}: {status} {err}")
    check(not os.path.exists(world.path("none")), "a folder was made for nothing")


def test_a_flag_that_is_none_is_named_also_where_others_are_missing(world):
    for command, wanted in (("restore", "say where from"), ("backup", "say where to"), ("import", "say where the blocks are")):
        status, out, err = tool(command, "--frob")
        check(status == 2 and out == "" and f"koalemos {command}: there is no flag --frob" in err, f"{status} {out} {err}")
        status, out, err = tool(command)
        check(status == 2 and out == "" and f"koalemos {command}: {wanted}\nusage: " in err, f"{status} {out} {err}")
    status, out, err = tool("encrypt", world.folder)
    check(status == 2 and out == "" and err == "koalemos encrypt: say by which keys: --encryption.keys.file FILE\n", f"{status} {out} {err}")
    for args, code in ((["serve", "--config", world.folder], 2), (["check-config", world.folder], 1)):
        status, out, err = tool(*args)
        check(status == code and f"config file {world.folder}: Is a directory" in err, f"{args}: {status} {out} {err}")
