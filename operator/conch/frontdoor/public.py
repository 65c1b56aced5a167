"""The part of HAProxy's configuration that meets callers: who they are, what they may, where to. Pure."""

from collections.abc import Iterator

from conch.frontdoor import refusals
from conch.frontdoor.routes import WHOLE
from conch.frontdoor.setup import Jwt, Setup

COMMON = "common"
"""The section of defaults that all others are from."""
MAPS = (
    "keys",  # digest of a key: its tenant
    "hosts",  # host: namespace/service
    "services",  # namespace/service: 1
    "open",  # namespace/service that needs no key: 1
    "grants",  # tenant|namespace/service, or *|namespace/service: 1
    "models",  # namespace/service: Triton's name of its model
    "bodies",  # namespace/service: bytes of a request's body
    "rate",  # namespace/service, or tenant|: requests in a second
    "rate10",  # the same: requests in ten seconds, of what is slower
    "concurrent",  # the same: requests at a time
    "canaries",  # namespace/service under a canary: share, revisions and places; see draw.lua
)
"""What the rules look up; each is a file in the beginning, and changed at run time."""

PATHS = (
    r"^/v2(/health/(live|ready)|/models/[^/]+(/versions/[0-9]+)?"
    r"(/(ready|config|stats|infer|generate|generate_stream))?)?$"
)
"""The KServe v2 protocol and Triton's reading extensions of it; nothing of its control."""
METHODS = (
    *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata"),
    *("ModelInfer", "ModelStreamInfer", "ModelConfig", "ModelStatistics"),
)
"""Of gRPC's inference.GRPCInferenceService."""
LOG = (
    "R %[var(txn.service)] %[var(txn.tenant)] %ST %[var(txn.grpc)] %[var(txn.protocol)] %b %s %ts "
    "%Tw %[date(0,us),sub(txn.begun)] %[var(txn.canary)] %[var(txn.place)] %[var(txn.answered)] "
    "%[date(0,us),sub(txn.sent)]"
)
"""One line a request: what the agent counts. Times in ms (waiting) and us (all of it, and since it went
on). Under a canary: what the map says, which place was drawn, and which answered; a stream has no time."""
ANONYMOUS = "-"
"""The tenant of callers without a key, at services that need none."""
_ANY_BODY = 1 << 40
_BODY_S = 5
"""Seconds for a call's first bytes, once its head is there."""
_STREAM = "{ path_end /ModelStreamInfer }"
WHOLE_BODY = f"http-request wait-for-body time 3600s if !{_STREAM}"
"""Waits for a body, or as much as the buffer holds, so that a request may be repeated. A caller that is
silent is left before, as ever."""


def public(setup: Setup) -> list[str]:
    """Return the sections that listen to callers and to the kubelet."""
    return [
        f"frontend public from {COMMON}",
        *(f"  {line}" for line in _public(setup)),
        "",
        *_tables(),
        f"frontend health from {COMMON}",
        f"  bind {setup.address}:{setup.health_port}",
        "  no log",
        "  http-request return status 200 content-type text/plain string ok if { path /healthz }",
        "  http-request return status 404",
        "",
    ]


def _public(setup: Setup) -> Iterator[str]:
    yield f"bind {setup.address}:{setup.http_port}"
    if setup.tls:
        yield f"bind {setup.address}:{setup.https_port} ssl crt {setup.certificate} alpn h2,http/1.1"
    yield f'log-format "{LOG}"'
    # A flood of connections from one address leaves room for others.
    yield "tcp-request connection track-sc2 src table sources"
    yield f"tcp-request connection reject if {{ sc2_conn_cur gt {setup.per_source} }}"
    yield "http-request set-var(txn.begun) date(0,us)"
    yield "acl grpc req.hdr(content-type) -m beg application/grpc"
    yield "http-request set-var(txn.protocol) str(http)"
    yield "http-request set-var(txn.protocol) str(grpc) if grpc"
    yield "http-after-response set-var(txn.grpc) res.hdr(grpc-status)"
    yield from refusals.typed()
    yield from _caller(setup)
    yield from _service(setup)
    yield from _permission()
    yield from _limits(setup)
    yield from _protocol(setup)
    yield from _sizes(setup)
    yield from _draw(setup)
    yield "use_backend pages if page !grpc"
    for protocol, spoken in (("grpc", "grpc"), ("http", "!grpc")):
        yield f"use_backend drawn-{protocol} if {spoken} {{ var(txn.place) -m found }}"
    yield "use_backend %[var(txn.service),regsub(/,:)]:grpc if grpc"
    yield "use_backend %[var(txn.service),regsub(/,:)]:http"


def _caller(setup: Setup) -> Iterator[str]:
    """Yield what tells the tenant of a request, in txn.tenant, and takes the key off it."""
    keys = setup.map_file("keys")
    digest = f"sha2(256),hex,lower,map_str({keys})"
    bearer = "req.hdr(authorization),regsub('^[Bb]earer +','')"
    yield f"http-request set-var(txn.tenant) req.hdr(x-api-key),{digest}"
    yield "acl as_bearer req.hdr(authorization) -m beg -i 'bearer '"
    yield "acl as_basic req.hdr(authorization) -m beg -i 'basic '"
    yield f"http-request set-var(txn.tenant) {bearer},{digest} if as_bearer"
    basic = "req.hdr(authorization),word(2,' '),b64dec,field(2,:)"
    yield f"http-request set-var(txn.tenant) {basic},{digest} if as_basic"
    if setup.jwt is not None:
        yield from _token(setup.jwt, bearer)
    # What a model's own code sees must not be what opens other services.
    for header in ("authorization", "x-api-key", "conch-tenant", "conch-backend", "conch-place"):
        yield f"http-request del-header {header}"


def _token(jwt: Jwt, bearer: str) -> Iterator[str]:
    """Yield what takes a signed token in the place of a key."""
    yield f"http-request set-var(txn.token) {bearer} if as_bearer"
    yield "acl is_token var(txn.token) -m reg ^[^.]+[.][^.]+[.][^.]+$"
    verified = f"var(txn.token),jwt_verify({jwt.algorithm},{jwt.key_file})"
    yield f"http-request set-var(txn.signed) {verified} if is_token"
    algorithm = f"{{ var(txn.token),jwt_header_query('$.alg') -m str {jwt.algorithm} }}"
    yield f"http-request unset-var(txn.signed) if is_token !{algorithm}"
    yield "acl good_token var(txn.signed) -m int 1"
    yield "http-request set-var(txn.now) date if good_token"
    for claim, bound in (("exp", "gt 0"), ("nbf", "le 0")):
        yield (
            f"http-request set-var(txn.{claim}) var(txn.token),jwt_payload_query('$.{claim}','int'),"
            "sub(txn.now) if good_token"
        )
        yield f"acl good_{claim} var(txn.{claim}) -m int {bound}"
    for claim, wanted in (("iss", jwt.issuer), ("aud", jwt.audience)):
        value = f"var(txn.token),jwt_payload_query('$.{claim}')"
        yield f"http-request set-var(txn.{claim}) {value} if good_token"
        yield f"acl good_{claim} " + (
            "always_true" if wanted is None else f"var(txn.{claim}) -m str {wanted}"
        )
    # A token may do without the time from which it holds, never without that of its end.
    early = "!{ var(txn.nbf) -m found }"
    tenant = f"var(txn.token),jwt_payload_query('$.{jwt.tenant_claim}')"
    for holds in ("good_nbf", early):
        yield (
            f"http-request set-var(txn.tenant) {tenant} "
            f"if good_token good_exp good_iss good_aud {holds}"
        )


def _service(setup: Setup) -> Iterator[str]:
    """Yield what tells which service is asked, in txn.service, and strips its name off the path."""
    hosts = setup.map_file("hosts")
    yield f"http-request set-var(txn.hosted) req.hdr(host),host_only,lower,map_str({hosts})"
    yield "acl by_host var(txn.hosted) -m found"
    yield "http-request set-var(txn.service) var(txn.hosted) if by_host"
    yield "http-request set-var(txn.service) req.hdr(conch-service) if grpc !by_host"
    yield "http-request set-var(txn.named) path,field(3,/) if !grpc !by_host"
    yield (
        "http-request set-var(txn.service) path,field(2,/),concat(/,txn.named) if !grpc !by_host"
    )
    yield "http-request set-var(txn.rest) path,regsub('^/[^/]*/?[^/]*/?','') if !grpc !by_host"
    yield "http-request set-path /%[var(txn.rest)] if !grpc !by_host"
    yield "http-request del-header conch-service"
    services = setup.map_file("services")
    yield f"acl known var(txn.service),map_str({services}) -m found"
    yield f"acl needs_none var(txn.service),map_str({setup.map_file('open')}) -m found"


def _permission() -> Iterator[str]:
    """Yield what refuses callers without a key, and those who may not know of the service."""
    yield "acl has_tenant var(txn.tenant) -m found"
    yield from refusals.rules(refusals.NO_KEY, "!has_tenant !needs_none")
    yield f"http-request set-var(txn.tenant) str({ANONYMOUS}) if !has_tenant"
    # The list of what a caller may ask is one of the pages.
    yield "acl index var(txn.service) -m str /"


def _limits(setup: Setup) -> Iterator[str]:
    """Yield what refuses requests beyond the limits: of a tenant at a service, and of a tenant."""
    grants = setup.map_file("grants")
    yield "http-request set-var(txn.pair) var(txn.tenant),concat(|,txn.service)"
    yield "http-request set-var(txn.any) str(*|),concat(,txn.service)"
    yield f"acl granted var(txn.pair),map_str({grants}) -m found"
    yield f"acl granted var(txn.any),map_str({grants}) -m found"
    yield "http-request set-var(txn.whole) var(txn.tenant),concat(|)"
    # Only what is let through counts: who asks for too much still gets what is his.
    scopes = (
        ("sc0", "txn.service", "pairs", "txn.pair", refusals.TOO_FAST, refusals.TOO_MANY),
        (
            *("sc1", "txn.whole", "tenants", "txn.whole"),
            *(refusals.TENANT_TOO_FAST, refusals.TENANT_TOO_MANY),
        ),
    )
    yield from refusals.rules(refusals.NOT_FOUND, "!known !index")
    yield from refusals.rules(refusals.NOT_FOUND, "!granted !needs_none !index")
    for counter, key, table, tracked, fast, many in scopes:
        yield f"http-request track-{counter} var({tracked}) table {table}"
        for name, fetch, refusal in (
            ("concurrent", f"{counter}_conn_cur", many),
            ("rate", f"{counter}_gpc0_rate", fast),
            ("rate10", f"{counter}_gpc1_rate", fast),
        ):
            limit = f"txn.{counter}_{name}"
            bound = "gt" if name == "concurrent" else "ge"
            yield f"http-request set-var({limit}) var({key}),map_str_int({setup.map_file(name)})"
            yield f"http-request set-var(txn.over) {fetch},sub({limit}) if {{ var({limit}) -m found }}"
            over = f"{{ var({limit}) -m found }} {{ var(txn.over) -m int {bound} 0 }}"
            yield from refusals.rules(refusal, over)
        yield f"http-request sc-inc-gpc0({counter[2]})"
        yield f"http-request sc-inc-gpc1({counter[2]})"


def _protocol(setup: Setup) -> Iterator[str]:
    """Yield what refuses all that is not the protocol, and sends people to the pages."""
    yield "acl page path / /openapi.json"
    yield f"acl in_protocol path -m reg '{PATHS}'"
    named = " ".join(f"/inference.GRPCInferenceService/{m}" for m in METHODS)
    yield f"acl in_grpc path {named} /grpc.health.v1.Health/Check"
    yield "acl reads method GET HEAD"
    yield "acl asks path_end /infer /generate /generate_stream"
    yield from refusals.rules(refusals.NO_PATH, "grpc !in_grpc")
    yield from refusals.rules(refusals.NO_PATH, "!grpc !in_protocol !page")
    yield from refusals.rules(refusals.NO_PATH, "!grpc !reads !asks !page")
    yield from refusals.rules(refusals.NO_PATH, "!grpc asks !METH_POST")
    models = setup.map_file("models")
    yield f"http-request set-var(txn.model) var(txn.service),map_str({models})"
    yield "http-request set-var(txn.asked) path,field(4,/) if !grpc { path_beg /v2/models/ }"
    yield "acl its_model var(txn.asked),strcmp(txn.model) eq 0"
    both = "{ var(txn.asked) -m found } { var(txn.model) -m found }"
    yield from refusals.rules(refusals.NO_MODEL, f"!grpc {both} !its_model")


def _sizes(setup: Setup) -> Iterator[str]:
    """Yield what refuses bodies that are too large, or that don't say how large they are.

    A message of gRPC says its length in front. In a stream, which may be silent at first, only the
    silence is bounded.
    """
    yield from refusals.rules(
        refusals.NO_LENGTH, "!grpc asks !{ req.hdr(content-length) -m found }"
    )
    bodies = setup.map_file("bodies")
    yield f"http-request set-var(txn.most) var(txn.service),map_str_int({bodies},{_ANY_BODY})"
    yield "acl unary path_end /ModelInfer"
    yield "http-request set-var(txn.body) req.hdr_val(content-length),sub(txn.most) if !grpc"
    yield f"http-request wait-for-body time {_BODY_S}s at-least 5 if grpc unary"
    size = "req.body,bytes(1,4),hex,hex2i,sub(txn.most)"
    yield f"http-request set-var(txn.body) {size} if grpc unary"
    yield from refusals.after_body(refusals.TOO_LARGE, "{ var(txn.body) -m int gt 0 }")


def _draw(setup: Setup) -> Iterator[str]:
    """Yield what draws inferences for a canary, each on its own; all else is stable's.

    Those that are not drawn wait for their bodies too, so that times can be compared.
    """
    canaries = setup.map_file("canaries")
    yield "acl infers path_end /infer /generate /generate_stream /ModelInfer /ModelStreamInfer"
    yield f"http-request set-var(txn.canary) var(txn.service),map_str({canaries}) if infers"
    yield "acl under_canary var(txn.canary) -m found"
    yield f"{WHOLE_BODY} under_canary"
    yield f"http-request set-var(txn.sent) date(0,us) if under_canary !{_STREAM}"
    yield "http-request set-var(txn.share) var(txn.canary),field(1,:) if under_canary"
    yield f"http-request set-var(txn.drawn) rand({WHOLE}),sub(txn.share) if under_canary"
    yield "http-request lua.draw if under_canary { var(txn.drawn) -m int lt 0 }"


def _tables() -> list[str]:
    kept = "store conn_cur,gpc0_rate(1s),gpc1_rate(10s)"
    return [
        f"backend pairs from {COMMON}",
        f"  stick-table type string len 400 size 100k expire 10m {kept}",
        "",
        f"backend tenants from {COMMON}",
        f"  stick-table type string len 200 size 20k expire 10m {kept}",
        "",
        f"backend sources from {COMMON}",
        "  stick-table type ipv6 size 100k expire 1m store conn_cur",
        "",
    ]
