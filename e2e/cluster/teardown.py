"""Taking the cluster down: the host is left as it was before."""

from pathlib import Path

from e2e.cluster import firewall, mounts, network, nodes, settings
from e2e.cluster.cgroups import Cgroups
from e2e.cluster.host import HostRecord
from e2e.cluster.local import locked
from e2e.cluster.nodes import Node
from e2e.cluster.pki import Pki
from e2e.cluster.processes import Supervisor
from e2e.cluster.progress import Reporter
from e2e.cluster.settings import Layout


def down(layout: Layout, *, report: Reporter) -> bool:
    """Ends and removes all that the cluster in `layout` consists of; False if there was nothing.

    It needs no part to be alive, and can itself be interrupted and run again. Raises
    ClusterError if something can't be removed, or belongs to another cluster.
    """
    with locked(report):
        network.check_owner(layout.root)
        record = HostRecord.load(layout.host_record)
        if record is None and not network.exists():
            mounts.remove_tree(layout.root)
            return False
        cgroups = Cgroups.detect()
        with report.step("ending the cluster's processes"):
            Supervisor(layout.processes).stop_all(grace=0)
            cgroups.kill()
        with report.step("removing mounts, cgroups, network and files"):
            mounts.unmount_tree(layout.root)
            _remove_node_leftovers(layout)
            cgroups.remove()
            firewall.remove(record.tables if record else {})
            network.down(layout.root)
            if record:
                record.restore_sysctls()
                record.remove_folders()
            _remove_files(layout)
    return True


def _remove_node_leftovers(layout: Layout) -> None:
    pki = Pki(layout.pki)
    for spec in settings.NODES:
        nodes.remove_leftovers(Node(spec, layout, Path(), pki))


def _remove_files(layout: Layout) -> None:
    """The record of the host goes last: while it is there, an interrupted `down` can go on."""
    for path in layout.root.iterdir() if layout.root.exists() else ():
        if path.is_dir():
            mounts.remove_tree(path)
        elif path != layout.host_record:
            path.unlink()
    layout.host_record.unlink(missing_ok=True)
    mounts.remove_tree(layout.root)
