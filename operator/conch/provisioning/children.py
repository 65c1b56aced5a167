"""All that a service revision has besides its ReplicaSets."""

from typing import Any

from conch.provisioning.config_map import config_map
from conch.provisioning.controller_revision import controller_revision
from conch.provisioning.metadata import Owner
from conch.provisioning.network_policy import Isolation, network_policy
from conch.provisioning.pdb import pdb
from conch.provisioning.service import service
from conch.provisioning.service_account import service_account
from conch.provisioning.snapshot import Snapshot
from conch.provisioning.volumes import local_volume


def service_children(
    snapshot: Snapshot,
    *,
    owner: Owner,
    isolation: Isolation | None = None,
    canary: tuple[str, float] | None = None,
) -> tuple[dict[str, Any], ...]:
    """Return the children that a service has once; traffic goes to the snapshot's revision.

    ``canary``: another one that gets a share of it, in percent.
    """
    budget = pdb(snapshot, owner=owner)
    return (
        *((network_policy(snapshot, isolation, owner=owner),) if isolation else ()),
        service_account(snapshot, owner=owner),
        service(snapshot, owner=owner, canary=canary),
        *((budget,) if budget else ()),
    )


def revision_children(
    snapshot: Snapshot, *, owner: Owner, number: int = 1
) -> tuple[dict[str, Any], ...]:
    """Return the children that each revision has; the order is that of their creation."""
    return (
        controller_revision(snapshot, owner=owner, number=number),
        config_map(snapshot, owner=owner),
        *local_volume(snapshot, owner=owner),
    )


def children(snapshot: Snapshot, *, owner: Owner, number: int = 1) -> tuple[dict[str, Any], ...]:
    """Return all children of a service with one revision, in the order of their creation."""
    return (
        *revision_children(snapshot, owner=owner, number=number),
        *service_children(snapshot, owner=owner),
    )
