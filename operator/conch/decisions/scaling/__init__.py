"""PURE: how many replicas a service should have.

``decide`` is the one entry; the time is passed in, in seconds, on any clock that only goes
forward. Each part (capacity, demand, window, fleet) is a small function of its own.
"""

from conch.decisions.scaling.load import PoolLoad, Profile, ScalingDecision, ServiceLoad
from conch.decisions.scaling.state import ScalingState, measured, state_from_profiles
from conch.decisions.scaling.steer import decide

__all__ = [
    "PoolLoad",
    "Profile",
    "ScalingDecision",
    "ScalingState",
    "ServiceLoad",
    "decide",
    "measured",
    "state_from_profiles",
]
