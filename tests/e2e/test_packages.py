"""What deploy/ says to Docker Compose and to systemd is what our programs take; nothing is started."""
import configparser
import glob
import os
import re
import subprocess

import koa
from koa import check

DEPLOY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "deploy")
PORTS = {"koalemos": "4480", "doorman": "4480", "ingestor": "4481", "querier": "4482"}


def takes(program, args, what):
    """Its flags and the file they name are a configuration; what it prints then."""
    said = subprocess.run([os.path.join(koa.BIN, program), *args, "--print-config"], capture_output=True, text=True,
                          timeout=60)
    check(said.returncode == 0, f"{what}: {program} {' '.join(args)}: {said.stderr}")
    return said.stdout


def test_compose_gives_each_service_flags_it_takes_and_files_that_are_there(world):
    try:
        import yaml
    except ImportError:
        raise koa.Failed("python3-yaml is missing: make setup-test installs it")
    with open(os.path.join(DEPLOY, "compose.yaml")) as f:
        compose = yaml.safe_load(f)
    services, ours = compose["services"], 0
    files = {name: os.path.join(DEPLOY, c["file"]) for name, c in compose["configs"].items()}
    for name, path in files.items():
        check(os.path.exists(path), f"config {name}: {path} is not there")
    for name, s in services.items():
        mounted = {c["target"]: files[c["source"]] for c in s.get("configs", [])}
        for other, how in s.get("depends_on", {}).items() if isinstance(s.get("depends_on"), dict) else []:
            check(other in services, f"{name} depends on {other}, which is not there")
            check(how["condition"] != "service_healthy" or "healthcheck" in services[other], f"{other} is never healthy")
        for secret in s.get("secrets", []):
            check(secret in compose["secrets"], f"{name}: no secret {secret}")
            check("file" in compose["secrets"][secret], f"secret {secret}: Compose puts only files into a container that is read-only")
        for volume in s.get("volumes", []):
            source = volume.split(":")[0]
            check(source in compose["volumes"] or os.path.exists(os.path.join(DEPLOY, source)), f"{name}: no {source}")
        if s["image"] != "koalemos":
            continue
        check(s["read_only"] and s["cap_drop"] == ["ALL"] and "no-new-privileges:true" in s["security_opt"],
              f"{name} may more than it needs")
        program = os.path.basename(s.get("entrypoint", ["koalemos"])[0])
        args = [mounted.get(a.split("=", 1)[1], a.split("=", 1)[1]) if a.startswith("--config=") else a for a in s["command"]]
        args = [f"--config={a}" if a.endswith(".yaml") and not a.startswith("-") else a for a in args]
        if program == "koalemos":                      # cluster init: it takes what services take
            check(args[:2] == ["cluster", "init"], f"{name}: {args}")
            program, args = "doorman", args[2:]
        printed = takes(program, args, f"compose, {name}")
        listen = re.search(r'^listen: "[^"]*:(\d+)"', printed, re.M)
        check(listen is None or listen.group(1) == PORTS[program], f"{name} listens on {listen and listen.group(1)}")
        for published in s.get("ports", []):
            check(published.endswith(":" + PORTS[program]), f"{name} publishes {published}")
        ours += 1
    check(ours >= 5, f"only {ours} services of ours")
    with open(os.path.join(DEPLOY, "Dockerfile")) as f:
        docker = f.read()
    check(set(re.search(r"^EXPOSE (.*)", docker, re.M).group(1).split()) == set(PORTS.values()), "EXPOSE")
    check(re.search(r"^USER 10001:10001$", docker, re.M), "the image's user")


def test_units_give_each_program_flags_it_takes_and_little_else(world):
    units = glob.glob(os.path.join(DEPLOY, "systemd", "*.service"))
    check(len(units) == 4, f"{units}")
    config = os.path.join(DEPLOY, "deb", "koalemos.yaml")
    for path in units:
        name = os.path.basename(path)
        unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
        unit.optionxform = str
        unit.read(path)
        service = unit["Service"]
        command = service["ExecStart"].replace("/etc/koalemos/koalemos.yaml", config).split()
        program, args = os.path.basename(command[0]), command[1:]
        takes(program, args, name)
        check(service["ExecReload"] == "/bin/kill -HUP $MAINPID", f"{name}: ExecReload")
        check(service["User"] == "koalemos" and service["NoNewPrivileges"] == "yes" and
              service["ProtectSystem"] == "strict" and service["CapabilityBoundingSet"] == "", f"{name} may more than it needs")
        for flag in args:
            if flag.startswith("--data-dir=/var/lib/"):
                check(service["StateDirectory"] == flag.split("/")[-1], f"{name}: its folder is not its StateDirectory")
