"""From what is measured of a service to how many replicas it should have."""

from conch.decisions.scaling.load import ScalingDecision, ServiceLoad
from conch.decisions.scaling.state import ScalingState


def decide(load: ServiceLoad, state: ScalingState, now: float) -> ScalingDecision:
    """Return the replicas that the service should have now, why, and the state for the next tick.

    ``now`` is in seconds. Without data the replicas stay what they are, within the bounds.
    """
    raise NotImplementedError
