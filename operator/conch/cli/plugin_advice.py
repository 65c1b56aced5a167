"""What each reason of a condition means and what to do about it, for ``explain`` and the docs."""

from collections.abc import Mapping
from dataclasses import dataclass

from conch.api.conditions import ConditionType, Reason

C, R = ConditionType, Reason


@dataclass(frozen=True)
class Advice:
    """A reason in words. ``todo`` is None where nothing is wrong."""

    on: tuple[ConditionType, ...]
    """The conditions that carry it of their own; Ready repeats the reason of what keeps it."""
    means: str
    todo: str | None = None


ADVICE: Mapping[Reason, Advice] = {
    R.SERVING: Advice((C.READY,), "At least one replica has the model loaded and gets traffic."),
    R.NO_READY_REPLICA: Advice(
        (C.READY,),
        "Replicas are wanted, none answers yet, and no fault is known.",
        "Wait for the load time of the model. If it stays so, read the pods: "
        "kubectl describe pod -l conch.dev/service=NAME",
    ),
    R.SCALED_TO_ZERO: Advice(
        (C.READY, C.SCALING_ACTIVE),
        "No replica is wanted. Ready is true where the front door holds the next request and the "
        "service is woken for it (spec.scaling.minReplicas is 0 and nobody is expected to ask soon), "
        "and false where spec.replicas is 0.",
        "Nothing where it sleeps; to keep one awake, raise spec.scaling.minReplicas. Where it is "
        "stopped, unset spec.replicas or raise it.",
    ),
    R.PLACED: Advice((C.ADMITTED,), "Every replica that is wanted has a node or a place on one."),
    R.NO_POOL: Advice(
        (C.ADMITTED,),
        "No GPUPool exists, or none matches spec.placement.",
        "Apply a GPUPool that selects the nodes, or correct spec.placement. What there is: "
        "kubectl get gpupools",
    ),
    R.POOL_WITHOUT_NODES: Advice(
        (C.ADMITTED, C.READY),
        "The pools that the service may use select no node. On a GPUPool: no node of it is ready.",
        "Label the nodes as the pool's spec.nodeSelector says, correct the selector, or bring the "
        "nodes back: kubectl get nodes --show-labels",
    ),
    R.INSUFFICIENT_CAPACITY: Advice(
        (C.ADMITTED,),
        "Replicas that minReplicas or spec.replicas insists on fit on no node; the message says "
        "what stands in the way, pool by pool.",
        "Free GPUs (who holds them: kubectl conch top), CPU or memory, add nodes, allow more pools "
        "in spec.placement, tolerate the taint in spec.podTemplate.tolerations or in the pool's, or "
        "lower spec.scaling.minReplicas or spec.replicas.",
    ),
    R.QUOTA_REFUSED: Advice(
        (C.ADMITTED,),
        "The API server refuses the pods: a ResourceQuota, a LimitRange, pod security or another "
        "admission rule. The message is its own.",
        "Raise the quota or the limit, or lower what the variant asks for in resources: "
        "kubectl describe quota,limitrange",
    ),
    R.AWAITING_SHARE: Advice(
        (C.ADMITTED,),
        "GPUs are short, and others are ahead: tenants that have less of their entitlement, or "
        "services of the same tenant with a higher priority. The message holds the numbers.",
        "Wait for its turn, lower what the tenant's other services hold, or have the platform "
        "change weight or quota of the Tenant. Who holds what: kubectl conch top tenants",
    ),
    R.TENANT_LIMIT: Advice(
        (C.ADMITTED,),
        "The tenant has all that its limit allows, or all of its quota where it may not borrow.",
        "Lower what its other services hold, or have spec.limit, spec.quota, spec.borrowing or "
        "spec.preemptible of the Tenant changed.",
    ),
    R.MODEL_LOADED: Advice((C.LOADED,), "A replica of the wanted revision answers for the model."),
    R.MODEL_LOADING: Advice(
        (C.LOADED,), "No replica of the wanted revision has loaded the model yet; none has failed."
    ),
    R.MODEL_NOT_FOUND: Advice(
        (C.LOADED, C.STALLED),
        "The Model or ClusterModel that spec.model names does not exist. What runs goes on.",
        "Apply it, or correct spec.model. A Model must be in the namespace of the service.",
    ),
    R.MODEL_INVALID: Advice(
        (C.LOADED, C.STALLED),
        "The model can't be used: its spec can't be read, its source is of a kind that is not "
        "supported, or file:// is not allowed there by this installation. What runs goes on.",
        "Correct the Model as the message says. Directories for file:// are allowed when the "
        "operator is installed (--file-source-prefix).",
    ),
    R.NO_VARIANT: Advice(
        (C.LOADED, C.STALLED),
        "The model has no variant of the name in spec.model.variant, or none that reaches "
        "spec.objective.minAccuracy. What runs goes on.",
        "Name a variant that the model has, lower minAccuracy, or add a variant.",
    ),
    R.SOURCE_UNAVAILABLE: Advice(
        (C.LOADED, C.STALLED),
        "The files of the model can't be had: the claim, path, URL or credentials are wrong, a "
        "Secret is missing, or the server does not answer. The kubelet goes on trying.",
        "Correct the source of the variant, put the files where it points, or make the Secret. The "
        "fetch in full: kubectl logs POD -c fetch",
    ),
    R.CHECKSUM_MISMATCH: Advice(
        (C.LOADED, C.STALLED),
        "The files are there, but their sha256 is not the one that the variant names, or the bytes "
        "that came are not those that the server says it has.",
        "Put the right files there, or write the sha256 that they have: kubectl conch digest PATH",
    ),
    R.LOAD_FAILED: Advice(
        (C.LOADED, C.STALLED),
        "Triton ended or refused the model; the message is its own error line. Replicas of an "
        "earlier revision keep the traffic.",
        "Mend the files, or backend, inputs, outputs and parameters of the variant. The log in "
        "full: kubectl logs POD -c triton --previous",
    ),
    R.OUT_OF_MEMORY: Advice(
        (C.LOADED, C.STALLED),
        "A container was killed because it used more memory than its limit.",
        "Raise resources.memory of the variant or perGPU.memory of the pool; lower maxBatchSize or "
        "instances.",
    ),
    R.IMAGE_UNAVAILABLE: Advice(
        (C.LOADED, C.STALLED),
        "The image can't be pulled.",
        "Correct spec.triton.image (or the chart's images), or name the credentials in "
        "spec.podTemplate.imagePullSecrets.",
    ),
    R.SCALING: Advice(
        (C.SCALING_ACTIVE,), "Replicas follow the load; the message holds the numbers."
    ),
    R.FIXED_REPLICAS: Advice(
        (C.SCALING_ACTIVE,),
        "spec.replicas is set (kubectl scale writes it), so the load decides nothing.",
        "Nothing, if that is wished. To let Conch scale again: kubectl patch msvc NAME "
        '--type=merge -p \'{"spec":{"replicas":null}}\'',
    ),
    R.NO_METRICS: Advice(
        (C.SCALING_ACTIVE,),
        "Prometheus does not answer, or has no fresh series of the service's replicas. Replicas "
        "stay as they are within the bounds; nothing is removed.",
        "Check the operator's --prometheus-url, that Prometheus scrapes the pods (they carry "
        "prometheus.io annotations), and that pod labels become series labels: docs/operations.md.",
    ),
    R.PARTIAL_METRICS: Advice(
        (C.SCALING_ACTIVE,),
        "Some ready replicas have reported nothing fresh for longer than a new one needs to show "
        "up. Replicas are added where needed, none is removed.",
        "Look at the targets of Prometheus: some pods are not scraped (a NetworkPolicy, or relabel "
        "rules that drop them).",
    ),
    R.ABSURD_METRICS: Advice(
        (C.SCALING_ACTIVE,),
        "A number is NaN, infinite or negative. Replicas stay as they are.",
        "Look at the series that the message names; nothing else is needed: Conch goes on by "
        "itself once they make sense.",
    ),
    R.AT_MAXIMUM: Advice(
        (C.SCALING_ACTIVE,),
        "The load asks for more replicas than scaling.maxReplicas.",
        "Raise spec.scaling.maxReplicas, or accept slower answers.",
    ),
    R.LIMITED_BY_CAPACITY: Advice(
        (C.SCALING_ACTIVE,),
        "More replicas are wished for than the pools have room for now.",
        "Free GPUs (who holds them: kubectl conch top), add nodes, or allow more pools in "
        "spec.placement.",
    ),
    R.LIMITED_BY_SHARE: Advice(
        (C.SCALING_ACTIVE,),
        "More replicas are wished for than the tenant may have now.",
        "As for AwaitingShare and TenantLimit: kubectl conch top tenants shows who holds what.",
    ),
    R.PAUSED: Advice(
        (C.SCALING_ACTIVE,),
        'The annotation conch.dev/paused is "true": Conch leaves the service as it is. Or '
        "spec.scaling.paused is true: replicas stay as many as they are, and all else goes on. Lost "
        "pods still come back.",
        "When you are done: kubectl conch resume NAME, or kubectl patch msvc NAME --type=merge -p "
        '\'{"spec":{"scaling":{"paused":false}}}\'',
    ),
    R.PROGRESSING: Advice(
        (C.RECONCILING,), "Something is under way; the message says what, pool by pool."
    ),
    R.MOVING: Advice(
        (C.RECONCILING,),
        "A replica is to leave its node, which is cordoned or has got a taint. Another is started first; once "
        "it answers, this one is drained and goes, and kubectl drain goes through. Where there is no other place "
        "it stays, and the drain waits.",
        "Nothing, while another place is found. Else make room in the pools that the message names, or take the "
        "cordon back: kubectl uncordon NODE.",
    ),
    R.MOVED: Advice(
        (C.READY, C.RECONCILING),
        "On a ModelMigration: another replica answers, and the one that was to leave is gone.",
    ),
    R.ROLLED_BACK: Advice(
        (C.READY, C.RECONCILING, C.STALLED),
        "On a ModelMigration: the move was refused, or taken back, and why. What answered before answers on.",
        "Do what the message says, then ask for the move again: kubectl conch migrate SERVICE --to NODE.",
    ),
    R.SETTLED: Advice(
        (C.RECONCILING, C.STALLED), "What is wanted is there, and nothing stands in the way."
    ),
    R.REPLICA_NOT_ANSWERING: Advice(
        (C.READY, C.RECONCILING, C.STALLED),
        "The front door finds that a replica takes requests and answers none, though its health checks "
        "are fine. It gets no more requests, and is made again: one at a time. On Stalled: no replica "
        "answers, and two new ones did not either, so none is replaced any more.",
        "Read what the replica says: kubectl logs POD -c triton. On Stalled, correct the model; the next "
        "revision is tried anew.",
    ),
    R.INVALID_SPEC: Advice(
        (C.STALLED,),
        "The spec of the object passed the API server but can't be read by this version of the "
        "operator. What runs goes on.",
        "Correct the field that the message names. After an upgrade, apply crds/ of the same "
        "version as the operator's.",
    ),
    R.CONFLICT: Advice(
        (C.STALLED,),
        "The API server refuses a write of Conch; the message is its own. Often an object of the "
        "same name exists that Conch did not make, or another tool claims a field.",
        "Remove or rename the other object, or leave the field to Conch; for a missing permission, "
        "apply the RBAC of the chart. Conch tries again by itself, at least once a minute.",
    ),
    R.NODES_READY: Advice((C.READY,), "On a GPUPool: so many of its nodes are ready."),
    R.POOLS_OVERLAP: Advice(
        (C.STALLED,),
        "On a GPUPool: nodes belong to another pool too, for the same resource. They count in both; "
        "each GPU is given only once all the same.",
        "Narrow spec.nodeSelector of one of the pools.",
    ),
    R.ACCEPTED: Advice((C.READY,), "On a Tenant: its namespaces, quota and limit are in force."),
    R.NAMESPACE_TAKEN: Advice(
        (C.READY,),
        "On a Tenant: a namespace belongs to an older Tenant, or to one that comes first by name. "
        "Services there count as that one's.",
        "Remove the namespace from spec.namespaces of one of them.",
    ),
    R.QUOTA_OVER_CAPACITY: Advice(
        (C.READY,),
        "On a Tenant: its quota is more than the pools of that accelerator have. It is honoured as "
        "far as there are GPUs.",
        "Lower spec.quota, add nodes, or correct the name of the accelerator: kubectl get gpupools",
    ),
    R.QUOTAS_LEAVE_NO_FLOOR: Advice(
        (C.STALLED,),
        "On a GPUPool: the tenants' quotas add up to more than 90 % of its accelerator, so that "
        "tenants without a quota may get nothing while all quotas are used.",
        "Lower quotas, or add nodes.",
    ),
}
"""By reason; a test sees to it that every reason is there."""
