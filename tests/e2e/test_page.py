"""The page at /: it is there, whole, asks only what is answered, and lets nothing that was pushed run."""
import os
import re
import subprocess

import koa
from koa import check, eventually, http

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "querier", "page")


def read(name):
    with open(os.path.join(PAGE, name)) as f:
        return f.read()


def test_the_page_is_served_as_it_is_and_loads_nothing_from_elsewhere(world):
    ours = koa.Serve(world)
    for path, name, kind in (("/", "page.html", "text/html"), ("/page.js", "page.js", "text/javascript"),
                             ("/page.css", "page.css", "text/css")):
        status, headers, body = http(ours.query + path)
        check(status == 200 and headers["Content-Type"].startswith(kind), f"{path}: {status} {headers['Content-Type']}")
        check(body.decode() == read(name), f"{path} is not what {name} holds")
        policy = headers["Content-Security-Policy"]
        check("default-src 'none'" in policy and "script-src 'self';" in policy and headers["X-Content-Type-Options"] == "nosniff",
              f"{path}: {policy}")
        check(not re.search(r"https?://", body.decode()), f"{path} names another place")


def test_the_page_asks_only_what_is_there_and_makes_text_of_what_it_gets(world):
    ours = koa.Serve(world)
    html, js = read("page.html"), read("page.js")
    ids = set(re.findall(r'id="(\w+)"', html))
    check(set(re.findall(r"\$\('(\w+)'\)", js)) <= ids, "the script wants an element that is not there")
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        check(unsafe not in js, f"{unsafe}: what was pushed could become markup")
    check(not re.search(r"\son\w+=", html), "a handler in the markup, which the policy does not let run")
    paths = set(re.findall(r"api\('([^']+)'", js)) | {p[7:] for p in re.findall(r'href="(api/v1/[^"]+)"', html)}
    check(len(paths) >= 8, f"only {sorted(paths)}")
    for path in paths:
        status, _, body = http(f"{ours.query}/api/v1/{path}?query=1&start=0&end=1&step=1")
        check(status == 200, f"{path}: {status} {body[:200]!r}")
    node = subprocess.run(["node", "--check", os.path.join(PAGE, "page.js")], capture_output=True, text=True, timeout=60)
    check(node.returncode == 0, node.stderr)


def key_of(world, *more):
    made = subprocess.run([os.path.join(koa.BIN, "koalemos"), "key", "new", "--file", world.path("keys"), *more],
                          capture_output=True, text=True, timeout=60)
    check(made.returncode == 0, f"key new: {made.stderr}")
    return {"Authorization": f"Bearer {made.stdout.strip()}"}


def test_with_keys_the_page_is_open_and_what_it_asks_is_not(world):
    reader = key_of(world, "--roles", "read", "--tenants", "anonymous")
    ours = koa.Serve(world, "--auth.keys.file", world.path("keys"))
    for path in ("/", "/page.js", "/page.css"):
        check(http(ours.query + path)[0] == 200, f"{path} wants a key")
    for path in ("status/buildinfo", "status/tsdb", "label/__name__/values", "query?query=1"):
        check(http(f"{ours.query}/api/v1/{path}")[0] == 401, f"{path} without a key")
        check(http(f"{ours.query}/api/v1/{path}", headers=reader)[0] == 200, f"{path} with one")
