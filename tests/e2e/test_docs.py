"""Every document's commands, run as docs/README.md says, one page after the other."""
import glob
import os
import re
import subprocess

import koa
from koa import check, eventually

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs")
FENCE = re.compile(r"^```(\S+)([^\n]*)\n(.*?)^```$", re.M | re.S)
KINDS = ("", "background", "eventually", "elsewhere")


class Page:
    def __init__(self, path, world):
        self.name, self.world = os.path.basename(path), world
        with open(path) as f:
            self.text = f.read()
        self.folder = world.path(self.name[:-3])
        os.makedirs(self.folder)
        self.ports, self.started, self.run = {}, [], 0
        self.env = {**os.environ, "PATH": f"{koa.BIN}:{koa.PEERS}:{os.environ['PATH']}", "HOME": self.folder}

    def here(self, text):
        """The same with ports of this machine that are free."""
        def port(m):
            if m.group(1) not in self.ports:
                self.ports[m.group(1)] = str(koa.free_port())
            return self.ports[m.group(1)]
        text = re.sub(r"(?<=127\.0\.0\.1:)(\d{4,5})\b", port, text)
        return re.sub(r"(?<=-port )(\d{4,5})\b", port, re.sub(r"(?<=^port: )(\d{4,5})\b", port, text, flags=re.M))

    def fail(self, block, said):
        line = self.text[:block.start()].count("\n") + 1
        for p in self.started:
            print(f"--- {p.name}: {p.words()[-800:]}")
        raise koa.Failed(f"docs/{self.name}, line {line}: {said}")

    def shell(self, script):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self.env,
                              capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def background(self, block, script):
        lines = [line for line in script.strip().splitlines() if line]
        check(len(lines) == 1, f"{self.name}: one command a block in the background")
        p = koa.Process(f"{self.name}-{len(self.started)}", ["bash", "-c", f"cd {self.folder} && exec {lines[0]}"],
                        self.world.folder, env={"PATH": self.env["PATH"], "HOME": self.folder})
        p.is_ours = lines[0].split()[0] in os.listdir(koa.BIN)
        self.world.processes.append(p)
        self.started.append(p)

    def expect(self, block, want, got):
        pattern = "".join(".*" if part == "..." else re.escape(part) for part in re.split(r"(\.\.\.)", want.strip()))
        if not re.fullmatch(pattern, got.strip(), re.S):
            self.fail(block, f"it printed\n{got}\ninstead of\n{want}")

    def play(self):
        last = None                                    # the output that a block of text is about
        for block in FENCE.finditer(self.text):
            kind, words, body = block.group(1), block.group(2).split(), self.here(block.group(3))
            if kind == "text":
                if last is not None:
                    self.expect(block, self.here(block.group(3)), last)
                last = None
                continue
            last = None
            if words and words[0].startswith("file="):
                with open(os.path.join(self.folder, words[0][5:]), "w") as f:
                    f.write(body)
                continue
            how = words[0] if words else ""
            check(kind == "sh" and how in KINDS, f"{self.name}: a fence `{kind} {' '.join(words)}` that means nothing")
            if how == "elsewhere":
                continue
            self.run += 1
            if how == "background":
                self.background(block, body)
            elif how == "eventually":
                said = [None]

                def tried():
                    said[0] = self.shell(body)
                    return said[0][0] == 0
                try:
                    eventually("it", tried, 40)
                except koa.Failed:
                    self.fail(block, f"not within 40 s; last {said[0]}")
                last = said[0][1]
            else:
                status, last, err = self.shell(body)
                if status != 0:
                    self.fail(block, f"status {status}\n{last}\n{err}")
        for p in self.started:
            check(p.alive() or p.may_be_gone, f"{self.name}: {p.name} has ended: {p.words()[-600:]}")
        return self.run


def test_every_command_of_the_documents_runs(world):
    ran = 0
    only = os.environ.get("KOA_DOC", "")
    for path in sorted(glob.glob(os.path.join(DOCS, "*.md"))):
        if only not in path:
            continue
        with koa.World() as own:
            count = Page(path, own).play()
        print(f"       {os.path.basename(path)}: {count} blocks", flush=True)
        ran += count
    check(only or ran > 30, f"only {ran} blocks were run")


def test_every_link_between_documents_leads_somewhere(world):
    top = os.path.join(DOCS, "..")
    for path in [*glob.glob(os.path.join(DOCS, "*.md")), *glob.glob(os.path.join(top, "*.md")),
                 *glob.glob(os.path.join(top, "deploy", "*.md"))]:
        with open(path) as f:
            text = re.sub(r"```.*?```|`[^`\n]*`", "", f.read(), flags=re.S)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                check(os.path.exists(os.path.join(os.path.dirname(path), target)),
                      f"{os.path.basename(path)}: {target} is not there")


def test_the_words_that_troubleshooting_explains_are_ours(world):
    top = os.path.join(DOCS, "..")
    source = ""
    for module in ("libkoal/*", "libtsproto", "libblock", "doorman", "ingestor", "querier", "libpromql", "koalemos"):
        for path in glob.glob(os.path.join(top, module, "*.[ch]")):
            with open(path) as f:
                source += f.read()
    source = re.sub(r'"\s*(?:PRI\w+\s*)?"', "", source)         # what a C compiler joins
    source = re.sub(r"%(?:[-\d.*]*(?:ll|l|z|h)*[a-z]|(?=\s))", "...", source)
    with open(os.path.join(DOCS, "troubleshooting.md")) as f:
        seen = [cell for cell in re.findall(r"^\| (.*?) \| ", f.read(), re.M) if "`" in cell]
    check(len(seen) > 10, f"only {len(seen)} symptoms")
    for cell in seen:
        for words in re.findall(r"`([^`]+)`", cell):
            for part in words.split("..."):
                check(part.strip() in source, f"nothing of ours says {part.strip()!r}")
