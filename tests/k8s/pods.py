"""Pods of rendered manifests, as processes: each with the command, environment, ConfigMaps, Secrets, volumes, user and
read-only root that its document says. As root a pod is a network and a mount namespace behind a bridge, with an address
and a root folder of its own; elsewhere it is a process on a loopback address of its own, with paths and names replaced.
"""
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time

from koa import check

NET = "10.93.0."            # as root, inside a network namespace that nobody else sees
LOOPBACK = f"127.93.{os.getpid() % 250 + 1}."
NEWNS, NEWNET = 0x00020000, 0x40000000
PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, PR_CAPBSET_DROP = 38, 1, 24
libc = ctypes.CDLL(None, use_errno=True)


def sh(*args):
    p = subprocess.run(args, capture_output=True, text=True)
    check(p.returncode == 0, f"{' '.join(args)}: {p.stderr}")


def bind(source, target, read_only=False):
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a").close()
    sh("mount", "--bind", source, target)
    if read_only:
        sh("mount", "-o", "remount,bind,ro", target)


def alone():
    """Again, inside a network and a mount namespace of our own: what is made there goes with the last of us."""
    if os.environ.get("KOA_ALONE"):
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", "koa0", "type", "bridge")
        sh("ip", "addr", "add", NET + "1/24", "dev", "koa0")
        sh("ip", "link", "set", "koa0", "up")
        return
    os.environ["KOA_ALONE"] = "1"
    os.execvp("unshare", ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, *sys.argv])


class Pod:
    namespace = "koalemos"

    def __init__(self, cluster, name, owner, number):
        self.cluster, self.name, self.owner, self.number = cluster, name, owner, number
        self.template = owner["spec"]["template"]
        self.labels = dict(self.template["metadata"]["labels"])
        self.spec = self.template["spec"]
        self.container = self.spec["containers"][0]
        self.ports = {p["name"]: p["containerPort"] for p in self.container.get("ports", [])}
        self.address = (NET if cluster.root else LOOPBACK) + str(10 + number)
        self.folder = os.path.join(cluster.folder, "pods", name)
        self.log = os.path.join(cluster.folder, name + ".log")
        self.child = None

    # ---- what it mounts ----

    def source(self, volume):
        """The folder that stands for a volume; made when it is first used."""
        name = volume["name"]
        path = os.path.join(self.folder, "volumes", name)
        if "configMap" in volume:
            files = self.cluster.config_map(volume["configMap"]["name"])
        elif "secret" in volume:
            files = self.cluster.secrets[volume["secret"]["secretName"]]
            if "items" in volume["secret"]:
                files = {i["path"]: files[i["key"]] for i in volume["secret"]["items"]}
        else:
            os.makedirs(path, exist_ok=True)
            if self.cluster.root:
                os.chown(path, 10001, 10001)
            return path
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        for key, text in files.items():
            with open(os.path.join(path, key), "w") as f:
                f.write(text if self.cluster.root else self.replaced(text))
            os.chmod(os.path.join(path, key), volume.get("secret", {}).get("defaultMode", 0o644) if self.cluster.root else 0o644)
            if self.cluster.root:
                os.chown(os.path.join(path, key), 0, 10001)
        return path

    def mounts(self):
        """(source, mountPath, read-only) of each."""
        volumes = {v["name"]: v for v in self.spec.get("volumes", [])}
        volumes.update({v["metadata"]["name"]: {"name": v["metadata"]["name"]} for v in self.owner["spec"].get("volumeClaimTemplates", [])})
        mounts = []
        for m in self.container["volumeMounts"]:
            source = self.source(volumes[m["name"]])
            if "subPath" in m:
                source = os.path.join(source, m["subPath"])
            elif self.cluster.root and "subPathExpr" in m:
                source = os.path.join(source, self.expanded(m["subPathExpr"]))
                os.makedirs(source, exist_ok=True)
                os.chown(source, 10001, 10001)
            mounts.append((source, m["mountPath"], m.get("readOnly", False)))
        return mounts

    # ---- its command ----

    def environment(self):
        fields = {"metadata.name": self.name, "metadata.namespace": self.namespace, "status.podIP": self.address}
        fields.update({f"metadata.labels['{k}']": v for k, v in self.labels.items()})
        env = {"PATH": "/usr/bin:/bin"}
        for e in self.container.get("env", []):
            if "value" in e:
                env[e["name"]] = e["value"]
            elif "secretKeyRef" in e["valueFrom"]:
                of = e["valueFrom"]["secretKeyRef"]
                env[e["name"]] = self.cluster.secrets[of["name"]][of["key"]]
            else:
                env[e["name"]] = fields[e["valueFrom"]["fieldRef"]["fieldPath"]]
        return env

    def expanded(self, word):
        for k, v in self.environment().items():
            word = word.replace(f"$({k})", v)
        return word

    def command(self):
        return [self.expanded(w) for w in (*self.container.get("command", ["/usr/bin/nats-server"]), *self.container.get("args", []))]

    # ---- on loopback: everything is a text ----

    def replaced(self, text):
        for name, addresses in sorted(self.cluster.names().items(), key=lambda n: -len(n[0])):
            if f"nats://{name}:4222" in text:
                text = text.replace(f"nats://{name}:4222", ",".join(f"nats://{a}:4222" for a in addresses))
            text = text.replace(f"//{name}:", f"//{addresses[0]}:")
        for m in sorted(self.container["volumeMounts"], key=lambda m: -len(m["mountPath"])):
            text = text.replace(m["mountPath"], os.path.join(self.folder, "volumes", m["name"]))
        text = text.replace("0.0.0.0:", self.address + ":")
        for line in ("port: 4222", "port: 6222"):
            text = text.replace(line, f"host: {self.address}\n{line}")
        return text.replace("http: 8222", f"http: \"{self.address}:8222\"")

    # ---- life ----

    def start(self):
        check(self.child is None, f"{self.name} runs already")
        mounts = self.mounts()
        if not self.cluster.root:
            words = [self.replaced(w) for w in self.command()]
            words[0] = self.cluster.programs[os.path.basename(words[0])]
            self.child = subprocess.Popen(words, env={**self.environment(), "PATH": os.environ["PATH"]}, cwd=self.folder,
                                          stdout=open(self.log, "ab"), stderr=subprocess.STDOUT, start_new_session=True)
            return
        ready, go = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                self.become(mounts, ready[1], go[0])
            except BaseException as e:                 # not back into the test
                os.write(2, f"{self.name}: {e!r}\n".encode())
            os._exit(127)
        os.close(ready[1])
        os.close(go[0])
        check(os.read(ready[0], 1) == b"r", f"{self.name} has no namespace of its own")
        link = f"v{self.number}"
        sh("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        sh("ip", "link", "set", link, "master", "koa0", "up")
        for words in (["addr", "add", self.address + "/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            sh("nsenter", "-t", str(pid), "-n", "ip", *words)
        if self.cluster.policies is not None:
            self.cluster.policies.impose(self, pid)
        os.write(go[1], b"g")
        os.close(ready[0])
        os.close(go[1])
        self.child = Child(pid)

    def become(self, mounts, ready, go):
        """In the child: a namespace, a root, a user, and then its command."""
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        check(libc.unshare(NEWNS | NEWNET) == 0, "unshare")
        root = os.path.join(self.folder, "root")
        shutil.rmtree(root, ignore_errors=True)
        os.makedirs(root)
        sh("mount", "-t", "tmpfs", "-o", "mode=755", "koalemos", root)
        for d in ("usr/bin", "etc", "proc", "dev"):
            os.makedirs(os.path.join(root, d))
        for link in ("lib", "lib64", "bin"):
            os.symlink("usr/" + link, os.path.join(root, link))
        for d in ("/usr/lib", "/usr/lib64", "/etc/ssl"):
            if os.path.isdir(d):
                bind(d, root + d, True)
        for name, path in {**self.cluster.programs, "sleep": "/bin/sleep"}.items():
            bind(path, os.path.join(root, "usr/bin", name), True)
        for device in ("null", "urandom"):
            bind("/dev/" + device, os.path.join(root, "dev", device))
        sh("mount", "--bind", "/proc", os.path.join(root, "proc"))
        with open(os.path.join(root, "etc/hosts"), "w") as f:
            f.write("127.0.0.1 localhost\n" + "".join(f"{a} {n}\n" for n, all_ in self.cluster.names().items() for a in all_))
        with open(os.path.join(root, "etc/nsswitch.conf"), "w") as f:
            f.write("hosts: files\n")
        if self.cluster.objects is not None:           # a folder in the place of an S3 that is not to be had
            bind(self.cluster.objects, root + "/objects")
        for source, path, read_only in mounts:
            bind(source, root + path, read_only)
        if self.container["securityContext"]["readOnlyRootFilesystem"]:
            sh("mount", "-o", "remount,ro", root)
        os.write(ready, b"r")
        check(os.read(go, 1) == b"g", "no network")
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.run_as(root, log, self.command())

    def run_as(self, root, log, words):
        """Below its root, as its user, without privileges; does not return."""
        user = self.spec["securityContext"]
        os.chroot(root)
        os.chdir("/")
        for capability in range(64):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        os.setgroups([user["fsGroup"]])
        os.setresgid(*[user["runAsGroup"]] * 3)
        os.setresuid(*[user["runAsUser"]] * 3)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 256)
        os.execve(words[0], words, self.environment())

    def exec(self, words, seconds):
        """As `kubectl exec` and a kubelet's hooks: beside the pod's process, with its environment; $(NAME) stays as it is.
        (exit status, what it said)"""
        path = os.path.join(self.folder, "exec.log")
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        if not self.cluster.root:
            words = [self.cluster.programs.get(os.path.basename(words[0]), words[0]), *(self.replaced(w) for w in words[1:])]
            child = subprocess.Popen(words, env={**self.environment(), "PATH": os.environ["PATH"]}, stdout=log, stderr=log, cwd=self.folder)
        else:
            namespace = os.open(f"/proc/{self.child.pid}/ns/net", os.O_RDONLY)
            pid = os.fork()
            if pid == 0:
                try:
                    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                    check(libc.setns(namespace, NEWNET) == 0, "setns")
                    self.run_as(f"/proc/{self.child.pid}/root", log, words)
                except BaseException as e:
                    os.write(2, f"{self.name}: {words[0]}: {e!r}\n".encode())
                os._exit(127)
            os.close(namespace)
            child = Child(pid)
        os.close(log)
        try:
            status = child.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait(30)
            status = -signal.SIGKILL
        with open(path, errors="replace") as f:
            return status, f.read()

    def words(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def stop(self):
        """As a kubelet does: what preStop says, SIGTERM, and SIGKILL when the time is over, which is a failure. What
        preStop said is in self.said, a failure of it is one here."""
        grace = self.spec.get("terminationGracePeriodSeconds", 30)
        begin = time.monotonic()
        command = self.container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
        self.said = ""
        if command[:1] == ["/bin/sleep"]:
            command = ["/bin/sleep", "1"]              # nobody here has to forget an endpoint
        if command:
            status, self.said = self.exec(command, grace)
            check(status == 0, f"{self.name}: preStop: {status} {self.said}")
        os.kill(self.child.pid, signal.SIGTERM)
        status = self.child.wait(max(1.0, grace - (time.monotonic() - begin)))
        self.child = None
        if self.cluster.root:
            subprocess.run(["ip", "link", "del", f"v{self.number}"], capture_output=True)
        return status

    def kill(self):
        if self.child is not None and self.child.poll() is None:
            os.kill(self.child.pid, signal.SIGKILL)
            self.child.wait(30)
        self.child = None


class Child:
    """What of subprocess.Popen a forked pod needs."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid != 0:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout):
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("pod", timeout)
            time.sleep(0.05)
        return self.returncode


class Stranger:
    """A pod that is none of the chart's: a network namespace with an address, labels and nothing in it."""
    ports = {}

    def __init__(self, cluster, name, namespace, labels):
        self.cluster, self.name, self.namespace, self.labels = cluster, name, namespace, labels
        self.number = 100 + len(cluster.strangers)
        self.address = NET + str(10 + self.number)
        self.child = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL, start_new_session=True)
        end, own = time.monotonic() + 30, os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.child.pid}/ns/net") == own:
            check(time.monotonic() < end, f"{name} has no namespace of its own")
            time.sleep(0.02)
        link = f"v{self.number}"
        sh("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(self.child.pid))
        sh("ip", "link", "set", link, "master", "koa0", "up")
        for words in (["addr", "add", self.address + "/24", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            sh("nsenter", "-t", str(self.child.pid), "-n", "ip", *words)
        cluster.strangers.append(self)


class PodCluster:
    """`objects`: a folder that stands in for S3, or None. `names`: what the DNS knows besides."""

    def __init__(self, documents, folder, programs, secrets, config_edit, root, objects=None, names=None):
        self.documents, self.folder, self.programs, self.secrets, self.root = documents, folder, programs, secrets, root
        self.config_edit, self.objects, self.more_names = config_edit, objects, names or {}
        if objects is not None:
            os.makedirs(objects)
            if root:
                os.chown(objects, 10001, 10001)
        self.pods, self.strangers, self.policies = [], [], None
        self.add(documents)

    def add(self, documents):
        """The pods of these documents."""
        added = []
        for d in documents:
            if d["kind"] in ("Deployment", "StatefulSet", "Job"):
                for i in range(self.count(d)):
                    added.append(Pod(self, f"{d['metadata']['name']}-{i}", d, len(self.pods) + len(added)))
        self.pods += added
        if self.policies is not None:                  # as a cluster's network learns of new pods
            self.policies.pods += added
            for p in self.pods:
                if p.child is not None:
                    self.policies.impose(p, p.child.pid)
        return added

    def count(self, d):
        for h in self.documents:
            if h["kind"] == "HorizontalPodAutoscaler" and h["spec"]["scaleTargetRef"]["name"] == d["metadata"]["name"]:
                return h["spec"]["minReplicas"]
        return d["spec"].get("replicas", 1)

    def config_map(self, name):
        data = next(d["data"] for d in self.documents if d["kind"] == "ConfigMap" and d["metadata"]["name"] == name)
        return {key: self.config_edit(key, text) for key, text in data.items()}

    def names(self):
        """Name -> addresses, as the cluster's DNS has them."""
        names = dict(self.more_names)
        for s in (d for d in self.documents if d["kind"] == "Service"):
            service = s["metadata"]["name"]
            chosen = [p for p in self.pods if all(p.labels.get(k) == v for k, v in s["spec"]["selector"].items())]
            names[service] = [p.address for p in chosen]
            if s["spec"].get("clusterIP") == "None":
                names.update({f"{p.name}.{service}": [p.address] for p in chosen if p.owner["spec"].get("serviceName") == service})
        return names

    def of(self, component):
        return [p for p in self.pods if p.labels["app.kubernetes.io/component"] == component]

    def end(self):
        for p in self.pods:
            p.kill()
        for s in self.strangers:
            s.child.kill()
            s.child.wait(30)
