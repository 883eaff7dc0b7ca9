"""NetworkPolicies by their effect: an interpreter of what Kubernetes says of them (networking.k8s.io/v1, no more of it than that),
whose outcome is a ruleset of nftables in each pod's network namespace. What no policy chooses takes and asks for everything;
what one chooses drops, of the directions that it speaks of, all that no rule of any lets through. A node always reaches its pods.
"""
import ctypes
import ipaddress
import os
import shutil
import socket
import subprocess
import threading

from koa import check

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def chooses(selector, labels):
    """A label selector; an empty one chooses all."""
    operators = {"In": lambda k, vs: labels.get(k) in vs, "NotIn": lambda k, vs: labels.get(k) not in vs,
                 "Exists": lambda k, vs: k in labels, "DoesNotExist": lambda k, vs: k not in labels}
    unknown = set(selector) - {"matchLabels", "matchExpressions"}
    check(not unknown, f"a selector with {unknown}")
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items()) and \
        all(operators[e["operator"]](e["key"], e.get("values", [])) for e in selector.get("matchExpressions", []))


class Policies:
    """`pods`: things with name, namespace, labels, address, and ports by name. `namespaces`: labels by name."""

    def __init__(self, documents, namespace, pods, namespaces, node):
        self.all = [d for d in documents if d["kind"] == "NetworkPolicy"]
        self.namespace, self.pods, self.namespaces, self.node = namespace, pods, namespaces, node

    def of(self, pod, direction):
        """The policies that speak of this pod and direction."""
        return [p for p in self.all if p["metadata"].get("namespace", self.namespace) == pod.namespace and
                chooses(p["spec"]["podSelector"], pod.labels) and direction in p["spec"]["policyTypes"]]

    def peers(self, peer, policy):
        """Addresses and networks that one peer of a rule stands for."""
        if "ipBlock" in peer:
            check(set(peer) == {"ipBlock"}, f"a peer of two kinds: {peer}")
            nets = [ipaddress.ip_network(peer["ipBlock"]["cidr"])]
            for hole in peer["ipBlock"].get("except", []):
                nets = [part for n in nets for part in (n.address_exclude(ipaddress.ip_network(hole))
                        if ipaddress.ip_network(hole).subnet_of(n) else [n])]
            return [str(n) for n in nets]
        own = policy["metadata"].get("namespace", self.namespace)
        inside = [n for n, labels in self.namespaces.items() if chooses(peer["namespaceSelector"], labels)] \
            if "namespaceSelector" in peer else [own]
        return [p.address for p in self.pods if p.namespace in inside and chooses(peer.get("podSelector", {}), p.labels)]

    def ports(self, rule, takers):
        """nft's words for the ports of a rule; `takers`: the pods whose named ports are meant."""
        if not rule.get("ports"):
            return [""]
        words = []
        for p in rule["ports"]:
            protocol, port = p.get("protocol", "TCP").lower(), p.get("port")
            if port is None:
                words.append(f"meta l4proto {protocol}")
            elif isinstance(port, str):
                words += [f"{protocol} dport {t.ports[port]}" for t in takers if port in t.ports]
            else:
                words.append(f"{protocol} dport {port}" + (f"-{p['endPort']}" if "endPort" in p else ""))
        return words

    def chain(self, pod, direction):
        hook, key, side, near = {"Ingress": ("input", "from", "saddr", "iif"), "Egress": ("output", "to", "daddr", "oif")}[direction]
        policies = self.of(pod, direction)
        lines = []
        for policy in policies:
            for rule in policy["spec"].get(direction.lower()) or []:
                far = [""]
                if rule.get(key):
                    addresses = sorted({a for peer in rule[key] for a in self.peers(peer, policy)})
                    far = [f"ip {side} {{ {', '.join(addresses)} }} "] if addresses else []
                lines += [f"{f}{p} accept" for f in far for p in self.ports(rule, [pod] if direction == "Ingress" else self.pods)]
        always = ["ct state established,related accept", f"{near} lo accept"] + \
            ([f"ip saddr {self.node} accept"] if direction == "Ingress" else [])
        return [f"chain {direction.lower()} {{", f"type filter hook {hook} priority 0; policy {'drop' if policies else 'accept'};",
                *(always + lines if policies else []), "}"]

    def ruleset(self, pod):
        return "\n".join(["add table inet koalemos", "delete table inet koalemos", "table inet koalemos {", *self.chain(pod, "Ingress"), *self.chain(pod, "Egress"), "}", ""])

    def impose(self, pod, pid):
        p = subprocess.run(["nsenter", "-t", str(pid), "-n", "nft", "-f", "-"], input=self.ruleset(pod), capture_output=True, text=True)
        check(p.returncode == 0, f"{pod.name}: nft: {p.stderr}\n{self.ruleset(pod)}")


def usable():
    """Words that say why not, or None."""
    if shutil.which("nft") is None:
        return "there is no nft (apt-get install nftables)"
    p = subprocess.run(["unshare", "--net", "nft", "-f", "-"], capture_output=True, text=True,
                       input="table inet t {\nchain c {\ntype filter hook input priority 0; policy drop;\nct state established accept\n}\n}\n")
    return None if p.returncode == 0 else f"nft does not work here: {p.stderr.strip()[:200]}"


def inside(pid, what):
    """what(), in the network namespace of a process: a thread may enter one alone."""
    result = []

    def run():
        try:
            if pid is not None:
                ns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
                try:
                    check(libc.setns(ns, CLONE_NEWNET) == 0, f"setns: {os.strerror(ctypes.get_errno())}")
                finally:
                    os.close(ns)
            result.append((True, what()))
        except BaseException as e:                     # told to who asked, not to the thread
            result.append((False, e))
    t = threading.Thread(target=run)
    t.start()
    t.join()
    good, value = result[0]
    if not good:
        raise value
    return value


def connects(address, port, seconds=2.0):
    try:
        socket.create_connection((address, port), seconds).close()
        return True
    except OSError:
        return False


def matrix(attempts):
    """{(who, to): whether it connected} of [(who, pid, to, address, port)], all at once."""
    seen, threads = {}, []
    for who, pid, to, address, port in attempts:
        def one(who=who, pid=pid, to=to, address=address, port=port):
            seen[(who, to)] = inside(pid, lambda: connects(address, port))
        threads.append(threading.Thread(target=one))
        threads[-1].start()
    for t in threads:
        t.join()
    return seen
