"""One service as the simulator takes it."""

from dataclasses import dataclass, field

from conch.api.service import Scaling
from conch.decisions.scaling import Profile
from conch.decisions.scaling.capacity import serving_rate


@dataclass(frozen=True)
class Workload:
    """A service, the variant of its model that it serves, and the accelerator that it runs on."""

    name: str
    profile: Profile
    """Of the variant on the accelerator, in seconds."""
    accelerator: str = "gpu"
    max_batch: int = 1
    instances: int = 1
    """Of the model in each replica."""
    queue_delay: float = 0.0
    """Seconds that the batcher waits on purpose."""
    objective: float | None = None
    """Seconds; a request is late whose wait and run together take longer."""
    scaling: Scaling = field(default_factory=Scaling)
    gpus: float = 1.0
    """Of each replica."""

    @property
    def minimum(self) -> int:
        """Never fewer replicas; 0 lets the service sleep."""
        return self.scaling.min_replicas

    @property
    def maximum(self) -> int:
        """Never more replicas."""
        return self.scaling.most

    @property
    def rate(self) -> float:
        """Requests a second that one replica serves within the objective, fully used."""
        found = serving_rate(
            self.profile,
            max_batch=self.max_batch,
            objective=self.objective,
            instances=self.instances,
        )
        return found or 1e9

    def bounded(self, replicas: int) -> int:
        """Return the number of replicas nearest to ``replicas`` within the bounds."""
        return min(max(replicas, self.minimum), max(self.minimum, self.maximum))
