"""The cluster's iptables rules: those it adds itself, and all that its parts leave behind."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from e2e.cluster import programs, settings

FAMILIES = ("iptables", "ip6tables")
_OWN_CHAIN = "CONCH"
_KUBERNETES = "KUBE-"  # kube-proxy's and kubelet's chains


@dataclass
class Table:
    """A table as iptables-save prints it: the names of its chains, and its rules in order."""

    name: str
    chains: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)


def parse_save(text: str) -> list[Table]:
    """The tables in what iptables-save printed."""
    tables: list[Table] = []
    for line in text.splitlines():
        if line.startswith("*"):
            tables.append(Table(line[1:].strip()))
        elif line.startswith(":"):
            tables[-1].chains.append(line[1:].split()[0])
        elif line.startswith("-A "):
            tables[-1].rules.append(line)
    return tables


def is_cluster_chain(chain: str) -> bool:
    """Whether a chain belongs to this cluster, given that no other Kubernetes was here before."""
    return chain == _OWN_CHAIN or chain.startswith(_KUBERNETES)


def removal_script(tables: Iterable[Table]) -> str:
    """Input for `iptables-restore --noflush` that removes the cluster's chains and rules only.

    Rules of other chains go only where they jump into a chain of ours. Empty if nothing is ours.
    """
    lines: list[str] = []
    for table in tables:
        ours = [chain for chain in table.chains if is_cluster_chain(chain)]
        jumps = [rule for rule in table.rules if _jumps_in(rule)]
        if not ours:
            continue
        lines.append(f"*{table.name}")
        lines += [f"-D {rule.removeprefix('-A ')}" for rule in jumps]
        lines += [f"-F {chain}" for chain in ours]
        lines += [f"-X {chain}" for chain in ours]
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def kubernetes_chains() -> list[str]:
    """The chains of any Kubernetes that are on this host now, such as `iptables nat KUBE-SERVICES`."""
    return [
        f"{family} {table.name} {chain}"
        for family in FAMILIES
        for table in save(family)
        for chain in table.chains
        if chain.startswith(_KUBERNETES)
    ]


def save(family: str) -> list[Table]:
    """The host's tables; none where the kernel lacks that family."""
    done = programs.attempt([f"{family}-save"])
    return [] if done.returncode else parse_save(done.stdout)


def table_names() -> dict[str, list[str]]:
    """By family, the tables that exist."""
    return {family: [table.name for table in save(family)] for family in FAMILIES}


def admit() -> None:
    """Lets traffic of the cluster's own network pass, whatever the host's policy. Idempotent.

    Before kube-proxy starts, so that its rules, which it puts first, are looked at first.
    """
    network = settings.CLUSTER_NETWORK
    replies = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
    programs.attempt(["iptables", "-w", "-N", _OWN_CHAIN])  # fails if the chain is there
    _ensure_rule("-A", _OWN_CHAIN, ["-s", network, "-j", "ACCEPT"])
    _ensure_rule("-A", _OWN_CHAIN, ["-d", network, *replies, "-j", "ACCEPT"])
    for chain in ("INPUT", "FORWARD"):
        _ensure_rule("-I", chain, ["-j", _OWN_CHAIN])


def admitted() -> bool:
    """Whether `admit` has been done and still holds."""
    filters = [table for table in save("iptables") if table.name == "filter"]
    return any(_OWN_CHAIN in table.chains for table in filters)


def remove(tables_before: dict[str, list[str]]) -> None:
    """Removes every chain and rule of the cluster; and tables that were not there before, if empty."""
    for family in FAMILIES:
        script = removal_script(save(family))
        if script:
            programs.run([f"{family}-restore", "--noflush", "-w"], given=script)
        for table in save(family):
            empty = not table.rules and not any(map(_is_user_chain, table.chains))
            if empty and table.name not in tables_before.get(family, [table.name]):
                _drop_table(family, table.name)


def _drop_table(family: str, table: str) -> None:
    # Where iptables is nftables underneath; otherwise tables stay, empty, and mean nothing.
    programs.attempt(["nft", "delete", "table", "ip6" if family == "ip6tables" else "ip", table])


def _ensure_rule(how: str, chain: str, rule: list[str]) -> None:
    if programs.attempt(["iptables", "-w", "-C", chain, *rule]).returncode:
        programs.run(["iptables", "-w", how, chain, *rule])


def _jumps_in(rule: str) -> bool:
    words = rule.split()
    if is_cluster_chain(words[1]):
        return False
    targets = [after for word, after in itertools.pairwise(words) if word in {"-j", "-g"}]
    return any(map(is_cluster_chain, targets))


def _is_user_chain(chain: str) -> bool:
    return chain not in {"INPUT", "OUTPUT", "FORWARD", "PREROUTING", "POSTROUTING"}
