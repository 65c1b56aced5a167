"""How a new revision of a service takes over, and how far it has come."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from conch.api.base import Duration, KubeModel, parse_duration


class Strategy(StrEnum):
    """How a new revision gets the traffic."""

    REPLACE = "Replace"
    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"


class CanarySteps(KubeModel):
    """Shares of the requests that a new revision gets before all, and how it is judged."""

    steps: Annotated[
        list[Annotated[float, Field(gt=0, le=100)]], Field(min_length=1, max_length=20)
    ] = [5.0, 25.0]
    """percent of the requests, step by step; each is judged against the revision that is there"""
    step_time: Duration = "60s"
    """least time of each step"""
    patience: Duration = "10m"
    """time of a step after which too few requests to judge by are no reason to wait, where nothing speaks against it"""
    confidence: Annotated[float, Field(ge=0.8, le=0.9999)] = 0.99
    """how sure a verdict has to be"""

    def seconds(self, field: str) -> float:
        """Return the duration in a field of this object, in seconds."""
        return parse_duration(getattr(self, field))


class RolloutSpec(KubeModel):
    """How new revisions take over."""

    strategy: Strategy = Strategy.REPLACE
    """Replace: as soon as it answers with as many replicas; Canary: step by step, judged, taken back where it is worse; BlueGreen: it comes up whole and waits for `kubectl conch rollout promote`"""
    canary: CanarySteps = CanarySteps()
    progress_deadline: Duration = "30m"
    """time without progress after which a new revision is taken back"""

    revision_history_limit: Annotated[int, Field(ge=0, le=20)] = 3
    """past revisions that `kubectl conch rollout undo` can go back to"""

    def seconds(self, field: str) -> float:
        """Return the duration in a field of this object, in seconds."""
        return parse_duration(getattr(self, field))


class RolloutPhase(StrEnum):
    """How a rollout stands; the last two are its ends."""

    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    WAITING = "Waiting"
    DONE = "Done"
    ROLLED_BACK = "RolledBack"

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return self in (RolloutPhase.DONE, RolloutPhase.ROLLED_BACK)


class RolloutStatus(KubeModel):
    """The last rollout; it goes on from this alone."""

    revision: str
    """revision that takes over, or was to"""
    stable: str | None = None
    """revision that it replaces"""
    phase: RolloutPhase
    """how it stands"""
    step: int | None = None
    """step of the canary, from 1; unset: it has none, or they are over"""
    percent: float | None = None
    """percent of the requests that it is to get now; unset: none before it takes over"""
    swaps: bool = False
    """whether the last replica of the old revision goes for it, as no GPU is free"""
    promoted: bool = False
    """whether a person has said that it takes over without further judgement"""
    began: str = Field(json_schema_extra={"format": "date-time"})
    """when it began"""
    since: str = Field(json_schema_extra={"format": "date-time"})
    """when it last came forward"""
    message: str
    """what is awaited and why, or how it ended"""
