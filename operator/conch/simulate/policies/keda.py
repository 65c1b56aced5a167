"""KEDA: an HPA on an external metric, and the step between zero and one replica.

After github.com/kedacore/keda v2.21.0, pkg/scaling/executor: KEDA hands its HPA a metric that is
asked for anew at each sync; by itself it only ends and begins the sleep of services that may
have no replica. The HPA is conch.simulate.policies.hpa.
"""

import math
from dataclasses import dataclass, replace

from conch.simulate.policies.base import PolicyMaker, Setting, Tick
from conch.simulate.policies.hpa import Hpa, HpaSettings, external_replicas
from conch.simulate.policies.options import Options, PolicyError, on_setting


@dataclass(frozen=True)
class KedaSettings:
    """A ScaledObject with one trigger."""

    target: int
    """``threshold`` for each replica, as an average value; in thousandths of a request."""
    minimum: int = 0
    maximum: int = 100
    in_flight: bool = False
    """Whether requests that run count too, beside those that wait."""
    polling: int = 30
    """Seconds between two looks for whether a service that may sleep is active."""
    cooldown: int = 300
    """Seconds without activity until it sleeps."""


class Keda(Hpa):
    """The policy: by pending requests, as Triton counts them: those that wait for a run.

    Triton's own count (``nv_inference_pending_request_count``) is gone with its last replica; here
    what waits is known all the same.
    """

    def __init__(self, settings: KedaSettings) -> None:
        super().__init__(
            HpaSettings(settings.target, minimum=max(1, settings.minimum), maximum=settings.maximum)
        )
        self._scaled = settings
        self._polled = -math.inf
        self._active = -math.inf
        """When a request was seen last."""

    def recommend(self, settings: HpaSettings, tick: Tick, current: int) -> int | None:  # noqa: ARG002
        """Return the replicas that the metric asks for."""
        return external_replicas(
            1000 * self._pending(tick),
            exist=tick.ready + tick.starting,
            target=settings.target,
            tolerance=settings.tolerance,
        )

    def replicas(self, tick: Tick) -> int:
        """Return the replicas asked for from now on."""
        asked = super().replicas(tick)
        if tick.now - self._polled >= self._scaled.polling:
            self._polled = tick.now
            asked = self._asked = self._polling(asked, tick)
        return asked

    def _polling(self, asked: int, tick: Tick) -> int:
        if self._pending(tick) > 0:
            self._active = tick.now
            return asked or max(1, self._scaled.minimum)
        if self._scaled.minimum == 0 and self._active + self._scaled.cooldown < tick.now:
            return 0
        return asked

    def _pending(self, tick: Tick) -> int:
        return tick.waiting + (tick.running if self._scaled.in_flight else 0)


def maker(options: Options) -> PolicyMaker:
    """Return what ``keda:pending=4`` or ``keda:inflight=8`` means."""
    if options.has("pending") == options.has("inflight"):
        raise PolicyError(
            f"{options.policy}: by what? Write keda:pending=4 (requests that wait, for each replica) "
            "or keda:inflight=8 (those that run too)"
        )
    in_flight = options.has("inflight")
    pending = options.number("pending", 0.0)
    target = round(1000 * options.number("inflight", pending))
    if target < 1:
        raise PolicyError(f"{options.policy}: less than a thousandth of a request is too little")
    polling = options.seconds("polling", 30, least=1)
    cooldown = options.seconds("cooldown", 300)
    settings = KedaSettings(target, in_flight=in_flight, polling=polling, cooldown=cooldown)

    def make(setting: Setting) -> Keda:
        return Keda(replace(settings, minimum=setting.minimum, maximum=setting.maximum))

    return on_setting(make)
