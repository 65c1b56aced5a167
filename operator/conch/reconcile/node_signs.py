"""Conditions of nodes that are signs of failing: those of well-known agents, and what people change.

Kubernetes itself looks at Ready alone, and taints nodes under pressure; of what other agents report it
goes on to schedule pods to the node.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_TYPE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?")
IGNORED = "ignore"
"""The word that takes a condition out of the table."""


@dataclass(frozen=True)
class Agent:
    """One that reports conditions of nodes."""

    name: str
    where: str
    """Where its conditions are documented or defined."""
    bad: str
    """The status that says that something is wrong."""
    kinds: tuple[str, ...]
    """Types of its conditions."""


AGENTS = (
    Agent(
        "kubelet",
        "Kubernetes, Node Status; tainted too: these count in pools that tolerate the taints",
        "True",
        ("MemoryPressure", "DiskPressure", "PIDPressure"),
    ),
    Agent(
        "node-problem-detector",
        "kubernetes/node-problem-detector, config/",
        "True",
        (
            "KernelDeadlock",
            "ReadonlyFilesystem",
            "XfsShutdown",
            "CperHardwareErrorFatal",
            "DiskBadBlock",
            "CorruptDockerOverlay2",
            "KubeletUnhealthy",
            "ContainerRuntimeUnhealthy",
            "FrequentKubeletRestart",
            "FrequentDockerRestart",
            "FrequentContainerdRestart",
            "FrequentUnregisterNetDevice",
        ),
    ),
    Agent(
        "EKS node monitoring agent",
        "aws/eks-node-monitoring-agent; Amazon EKS user guide, node health",
        "False",
        (
            "AcceleratedHardwareReady",
            "ContainerRuntimeReady",
            "KernelReady",
            "NetworkingReady",
            "StorageReady",
        ),
    ),
    Agent(
        "AKS node problem detector",
        "Azure Kubernetes Service, Node Problem Detector and GPU health monitoring",
        "True",
        (
            "FilesystemCorruptionProblem",
            "KubeletProblem",
            "ContainerRuntimeProblem",
            "GPUMissing",
            "NVLinkStatusInactive",
            "XIDErrors",
            "IBLinkFlapping",
            "GPUClockThrottling",
            "UnhealthyNvidiaDevicePlugin",
        ),
    ),
    Agent(
        "NVIDIA NVSentinel",
        "NVIDIA/NVSentinel, gpu-health-monitor and syslog-health-monitor; fatal ones alone",
        "True",
        (
            "GpuDriverWatch",
            "GpuInforomWatch",
            "GpuMcuWatch",
            "GpuMemWatch",
            "GpuNvlinkWatch",
            "GpuNvswitchFatalWatch",
            "GpuPcieWatch",
            "GpuPmuWatch",
            "GpuPowerWatch",
            "GpuSmWatch",
            "GpuThermalWatch",
            "SysLogsGPUFallenOff",
            "SysLogsSXIDError",
            "SysLogsXIDError",
        ),
    ),
    Agent(
        "AMD GPU operator",
        "ROCm/gpu-operator, auto remediation by node-problem-detector",
        "True",
        ("AMDGPUUnhealthy",),
    ),
)
"""Those that are known. VMEventScheduled of AKS is none of it: it tells of any maintenance."""

SIGNS: Mapping[str, str] = {kind: agent.bad for agent in AGENTS for kind in agent.kinds}
"""By type, the status in which a condition is a sign of failing."""


def node_signs(words: Iterable[str]) -> Mapping[str, str]:
    """Return the table with what ``TYPE=True``, ``TYPE=False`` and ``TYPE=ignore`` change in it.

    Raises ValueError, with a sentence for people, where a word is none of these.
    """
    found = dict(SIGNS)
    for word in words:
        kind, _, status = word.partition("=")
        said = {s.lower(): s for s in ("True", "False", IGNORED)}.get(status.lower())
        if said is None or not _TYPE.fullmatch(kind):
            raise ValueError(
                f"--node-sign: {word!r} is not of the form TYPE=True, TYPE=False or TYPE=ignore"
            )
        if said == IGNORED:
            found.pop(kind, None)
        else:
            found[kind] = said
    if "Ready" in found:
        raise ValueError("--node-sign: Ready is Kubernetes' own: a node that is not is left anyway")
    return found
