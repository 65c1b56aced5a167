"""``conch front-door``, the agent that runs beside HAProxy."""

from pathlib import Path
from typing import Annotated

import typer


def front_door_command(
    *,
    directory: Annotated[Path, typer.Option(help="what HAProxy and the agent share")],
    prepare: Annotated[
        bool, typer.Option("--prepare", help="only lay out what HAProxy begins with")
    ] = False,
    namespace: Annotated[
        str, typer.Option(envvar="POD_NAMESPACE", help="the installation's namespace")
    ] = "conch-system",
    pod: Annotated[str | None, typer.Option(envvar="POD_NAME", help="name of this pod")] = None,
    port: Annotated[int, typer.Option(help="of metrics and of the report")] = 8082,
    domain: Annotated[
        str | None, typer.Option(help="services are SERVICE.NAMESPACE.DOMAIN, too")
    ] = None,
    own_host: Annotated[
        list[str] | None,
        typer.Option(help="a name of the front door itself, which no service may take; repeatable"),
    ] = None,
    own_service: Annotated[
        str | None, typer.Option(help="name of its Service, whose names no service may take either")
    ] = None,
    tls_secret: Annotated[
        str | None, typer.Option(help="Secret of type kubernetes.io/tls in the namespace")
    ] = None,
    keys_everywhere: Annotated[
        bool,
        typer.Option("--keys-everywhere", help="let Secrets of any namespace hold keys, too"),
    ] = False,
    jwt_algorithm: Annotated[
        str | None, typer.Option(help="take JSON Web Tokens too, signed so, such as RS256")
    ] = None,
    jwt_key: Annotated[Path | None, typer.Option(help="file with the public key (PEM)")] = None,
    jwt_issuer: Annotated[str | None, typer.Option(help="the only issuer that counts")] = None,
    jwt_audience: Annotated[str | None, typer.Option(help="the only audience that counts")] = None,
    jwt_tenant_claim: Annotated[str, typer.Option(help="claim that names the tenant")] = "tenant",
    threads: Annotated[int, typer.Option(min=1, max=64, help="of HAProxy")] = 2,
    max_connections: Annotated[int, typer.Option(min=10, help="of HAProxy")] = 10_000,
    max_connections_per_source: Annotated[
        int, typer.Option(min=1, help="of one address at a time")
    ] = 2_000,
    http_port: Annotated[int, typer.Option()] = 8080,
    https_port: Annotated[int, typer.Option()] = 8443,
    health_port: Annotated[int, typer.Option()] = 8404,
    address: Annotated[str, typer.Option(help="where HAProxy listens; unset: everywhere")] = "",
    longest_stream: Annotated[
        float, typer.Option(min=1, help="seconds for which a replaced worker goes on")
    ] = 3600.0,
    kubeconfig: Annotated[str | None, typer.Option(help="unset: the pod's own account")] = None,
    log_level: Annotated[str, typer.Option()] = "INFO",
) -> None:
    """Steer the HAProxy beside it: routes, keys, limits; and report to the operator."""
    import asyncio  # noqa: PLC0415  # here, so that `conch fetch` starts without them
    import logging  # noqa: PLC0415

    from conch.frontdoor.setup import ALGORITHMS, Jwt, Setup  # noqa: PLC0415
    from conch.frontdoor.steering import prepare as lay_out  # noqa: PLC0415

    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if (jwt_algorithm is None) != (jwt_key is None):
        raise typer.BadParameter("--jwt-algorithm and --jwt-key go together")
    if jwt_algorithm is not None and jwt_algorithm not in ALGORITHMS:
        raise typer.BadParameter(f"--jwt-algorithm is one of {', '.join(ALGORITHMS)}")
    jwt = None
    if jwt_algorithm is not None and jwt_key is not None:
        jwt = Jwt(jwt_algorithm, jwt_key, jwt_tenant_claim, jwt_issuer, jwt_audience)
    setup = Setup(
        directory=directory,
        http_port=http_port,
        https_port=https_port,
        health_port=health_port,
        agent_port=port,
        address=address,
        threads=threads,
        max_connections=max_connections,
        per_source=max_connections_per_source,
        longest_stream=longest_stream,
        jwt=jwt,
    )
    lay_out(setup)
    if prepare:
        return
    logging.getLogger("conch").info("front door %s", pod or "")
    from conch.frontdoor.process import run  # noqa: PLC0415
    from conch.frontdoor.routes import Own  # noqa: PLC0415

    own = Own(
        frozenset(h.lower() for h in own_host or ()),
        f"{own_service}.{namespace}.svc" if own_service else None,
        domain,
    )

    try:
        asyncio.run(
            run(
                setup,
                home=namespace,
                own=own,
                certificate=tls_secret,
                everywhere=keys_everywhere,
                kubeconfig=kubeconfig,
            )
        )
    except* Exception as group:
        logging.getLogger("conch").exception("ended: %s", "; ".join(map(str, group.exceptions)))
        raise typer.Exit(1) from None
