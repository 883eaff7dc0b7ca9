"""The configuration as an operator meets it: what is wrong is pointed at."""
import json
import os
import re
import subprocess

import koa
from koa import check


def tool(*args):
    """(exit status, stdout, stderr)"""
    p = subprocess.run([os.path.join(koa.BIN, "koalemos"), *args], capture_output=True, text=True, timeout=60)
    return p.returncode, p.stdout, p.stderr


def written(world, name, text):
    with open(world.path(name), "w") as f:
        f.write(text)
    return world.path(name)


WRONG = [
    ("log:\n  levle: info\n", 2, 3, 'did you mean "log.level"?'),
    ("log:\n  level: loud\n", 2, 10, "debug|info|warn|error"),
    ("limits: {past: 300y}\n", 1, 16, "from 0 to 200y"),
    ("a: [\n", 2, 1, ""),
    ("partitions: 16\nplacement:\n  static: ingestor-0=0-16\n", 3, 11, "placement.static"),
    ("store:\n  url: ftp://x\n", 2, 8, "store.url"),
    ("write_relabel:\n- {action: explode}\n", 2, 1, "explode"),
    ("tenants:\n  a:\n    listen: x\n", 3, 13, "cannot be said of one tenant"),
]


def test_check_config_points_at_line_and_column(world):
    good = written(world, "good.yaml", "log: {level: debug}\ntenants: {a: {limits: {past: 1h}}}\n")
    status, out, err = tool("check-config", good)
    check((status, out) == (0, f"{good}: good\n"), f"a good file: {status} {out} {err}")
    for text, line, column, words in WRONG:
        bad = written(world, "bad.yaml", text)
        status, out, err = tool("check-config", good, bad)
        check(status == 1 and f"{bad}, line {line}, column {column}" in err and words in err and "good" in out,
              f"{text!r}: {status} {out!r} {err!r}")
    status, _, err = tool("check-config", world.path("none.yaml"))
    check(status == 1 and "No such file" in err, f"a file that is not there: {status} {err}")


def test_the_files_that_are_shipped_are_configurations(world):
    top = os.path.join(os.path.dirname(__file__), "..", "..", "deploy")
    files = [os.path.join(top, f) for f in ("cluster.yaml", "compose/koalemos.yaml", "deb/koalemos.yaml")]
    status, out, err = tool("check-config", *files)
    check(status == 0 and out.count(": good") == len(files), f"{out} {err}")


def test_the_schema_has_every_option(world):
    status, out, err = tool("config", "schema")
    check(status == 0, err)
    schema = json.loads(out)

    def paths(node, prefix=""):
        for name, below in node["properties"].items():
            if prefix == "" and name == "tenants":
                continue
            if below.get("type") == "object":
                check(below["additionalProperties"] is False, f"{prefix}{name} takes any key")
                yield from paths(below, f"{prefix}{name}.")
            else:
                check(below["description"], name)
                yield prefix + name

    _, told, _ = tool("serve", "--help")
    flags = re.findall(r"^  --([a-z0-9._-]+)$", told, re.MULTILINE)
    flags = [f for f in flags if f not in ("help", "version")]
    check(len(flags) > 100 and sorted(paths(schema)) == sorted(flags), "schema and --help differ")
    tenant = schema["properties"]["tenants"]["additionalProperties"]["properties"]
    check("limits" in tenant and "listen" not in tenant, f"of a tenant: {sorted(tenant)}")
