"""Names that objects, labels and annotations carry; the one place that spells them."""

GROUP = "conch.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

FIELD_MANAGER = "conch"

LABEL_SERVICE = f"{GROUP}/service"
LABEL_REVISION = f"{GROUP}/revision"
LABEL_POOL = f"{GROUP}/pool"
LABEL_SERVING = f"{GROUP}/serving"
SERVING = "on"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "conch"

GATE = f"{GROUP}/placement"

ANNOTATION_APPLIED = f"{GROUP}/applied"
"""Digest of what Conch last applied to a child, so that an unchanged wish writes nothing."""
ANNOTATION_DRAINING_SINCE = f"{GROUP}/draining-since"
"""When a pod lost its traffic label (ISO 8601, UTC)."""
ANNOTATION_DEVICES = f"{GROUP}/devices"
"""What a pod asks of a DRA driver, NAME=COUNT, since its spec names a claim and no number."""
ANNOTATION_CANARY = f"{GROUP}/canary"
"""On a Service: "REVISION=PERCENT" gives another revision that share of the requests."""
ANNOTATION_ROLLOUT = f"{GROUP}/rollout"
"""On a ModelService: what a person wants of the rollout of a revision, promote/REVISION, abort/REVISION or
pause/REVISION; it says nothing of other revisions."""
ANNOTATION_UNDO = f"{GROUP}/undo"
"""On a ModelService: REVISION/OTHER goes back to the other one for as long as REVISION is asked for."""
ANNOTATION_PAUSED = f"{GROUP}/paused"
"""On a ModelService: "true" makes Conch leave everything as it is."""

ANNOTATION_MIGRATION = f"{GROUP}/migration"
"""On a pod: the ModelMigration by which it takes another's place. It gets no traffic before it is warm."""
ANNOTATION_DISTURBED = f"{GROUP}/disturbed"
"""On a pod: "true" says that it, or one whose place it took by a migration, was moved away from busy
neighbours. The planner moves it beside no others again, nor others beside it."""

LABEL_FRONT_DOOR = f"{GROUP}/front-door"
FRONT_DOOR = "on"
"""Pods of the front door carry this label in the release's namespace."""
LABEL_OPERATOR = f"{GROUP}/operator"
OPERATOR = "on"
"""Pods of the operator carry this label in the same namespace."""
LABEL_API_KEYS = f"{GROUP}/api-keys"
"""On a Secret that holds keys of callers: their tenant's name, or API_KEYS."""
API_KEYS = "on"
"""For the tenant that the Secret's own namespace belongs to."""

LABEL_ZONE = "topology.kubernetes.io/zone"
LABEL_HOST = "kubernetes.io/hostname"
LABEL_NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Each namespace carries its own name so."""

TRITON_CONTAINER = "triton"
FETCH_CONTAINER = "fetch"
PORT_HTTP = 8000
PORT_GRPC = 8001
PORT_METRICS = 8002
PORT_FRONT_DOOR_HTTP = 8080
"""Where the front door's pods take HTTP and gRPC without TLS."""
PORT_FRONT_DOOR_HTTPS = 8443
PORT_FRONT_DOOR_HEALTH = 8404
PORT_FRONT_DOOR_AGENT = 8082
"""Where the agent beside HAProxy serves its metrics and its report."""

DEFAULT_GPU_RESOURCE = "nvidia.com/gpu"
