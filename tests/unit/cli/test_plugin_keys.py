"""Keys of callers: what is made, whose they are, and which the front door takes."""

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from conch.cli import plugin_keys as keys
from conch.cli.plugin_keys import State
from conch.cli.plugin_target import PluginError
from conch.cli.plugin_tenants import Owners
from conch.frontdoor.lookups import Tenants, digest, keys_of
from tests.unit.cli.objects import NOW, SINCE

HOME = "conch-system"
OWNERS = Owners({"vision": "sight", "vision-dev": "sight"}, frozenset({"sight"}))
GOOD = "k" * 16


def held(name: str, namespace: str, label: str, **data: str | bytes) -> dict[str, Any]:
    """Return a Secret; texts are keys, bytes stand as they are."""
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"conch.dev/api-keys": label},
            "creationTimestamp": SINCE,
        },
        "data": {
            n: v.decode() if isinstance(v, bytes) else base64.b64encode(v.encode()).decode()
            for n, v in data.items()
        },
    }


def states(*bodies: dict[str, Any], owners: Owners = OWNERS) -> Mapping[str, tuple[Any, State]]:
    found = keys.lines(bodies, owners=owners, home=HOME, now=NOW)
    return {f"{k.namespace}/{k.name}/{k.key}": (k.tenant, k.state) for k in found}


def test_keys_are_long_random_and_fit_a_header() -> None:
    made = {keys.new_key() for _ in range(50)}
    assert len(made) == 50
    for key in made:
        prefix, _, rest = key.partition("_")
        assert prefix == "conch"
        assert len(base64.urlsafe_b64decode(rest + "=")) == 32
        assert key.isascii()
        assert not set(key) & set(" ,;:\"'\\")


def test_the_front_door_takes_a_key_that_was_made() -> None:
    key = keys.new_key()
    body = keys.secret("laptop", HOME, "sight", key)
    (entry,) = body["data"]
    assert entry == keys.entry_of(key)
    assert key not in str(body)
    assert keys_of([body], Tenants(OWNERS.by_namespace, {"sight": None}), HOME) == {  # type: ignore[dict-item]
        digest(key): "sight"
    }


@pytest.mark.parametrize(
    ("tenant", "is_namespace", "told"),
    [
        ("vision", True, "belongs to Tenant 'sight': write --tenant sight"),
        ("sihgt", False, "no Tenant and no namespace 'sihgt'; Tenants: sight"),
        ("sight", False, None),
        ("lab", True, None),
    ],
)
def test_only_a_tenant_gets_a_key(tenant: str, is_namespace: bool, told: str | None) -> None:
    if told is None:
        assert keys.checked_tenant(tenant, OWNERS, is_namespace=is_namespace) == tenant
        return
    with pytest.raises(PluginError, match=told):
        keys.checked_tenant(tenant, OWNERS, is_namespace=is_namespace)


@pytest.mark.parametrize(
    ("namespace", "tenant", "home", "label"),
    [
        (HOME, "sight", HOME, "sight"),
        ("vision", None, HOME, "on"),
        ("vision", "sight", HOME, "sight"),
        ("lab", "lab", HOME, "lab"),
        ("somewhere", "sight", None, "sight"),
        ("vision", None, None, "on"),
    ],
)
def test_labels(namespace: str, tenant: str | None, home: str | None, label: str) -> None:
    assert keys.label_for(namespace, tenant, home=home, owners=OWNERS) == label


@pytest.mark.parametrize(
    ("namespace", "tenant", "told"),
    [
        (HOME, None, "--tenant"),
        ("vision", "lab", "are of its tenant, 'sight'"),
        (HOME, "x" * 64, "too long"),
    ],
)
def test_keys_that_would_be_nobodys(namespace: str, tenant: str | None, told: str) -> None:
    with pytest.raises(PluginError, match=told):
        keys.label_for(namespace, tenant, home=HOME, owners=OWNERS)


def test_keys_are_listed_with_their_tenants() -> None:
    assert states(
        held("a", HOME, "sight", one=GOOD, two=GOOD + "2"),
        held("b", "vision", "on", key=GOOD + "3"),
        held("c", "lab", "anything", key=GOOD + "4"),
        held("d", HOME, "on", key=GOOD + "5"),
    ) == {
        f"{HOME}/a/one": ("sight", State.GOOD),
        f"{HOME}/a/two": ("sight", State.GOOD),
        "vision/b/key": ("sight", State.GOOD),
        "lab/c/key": ("lab", State.GOOD),
        f"{HOME}/d/key": (HOME, State.GOOD),
    }


def test_keys_that_do_not_count_say_why() -> None:
    found = states(
        held("a", HOME, "sight", short="k" * 15, odd=b"***", twice=GOOD, own=GOOD + "1"),
        held("b", HOME, "lab", twice=GOOD),
        held("c", HOME, "vision", key=GOOD + "2"),
        held("d", HOME, "sight", again=GOOD + "1"),
    )
    assert {k.removeprefix(f"{HOME}/"): state for k, (_, state) in found.items()} == {
        "a/short": State.SHORT,
        "a/odd": State.UNREADABLE,
        "a/twice": State.TWICE,
        "a/own": State.GOOD,
        "b/twice": State.TWICE,
        "c/key": State.OWNERLESS,
        "d/again": State.GOOD,
    }


def test_the_list_and_the_front_door_agree() -> None:
    """On the same Secrets: what one calls good, the other takes, for the same tenant."""
    bodies = [
        held("a", HOME, "sight", short="k" * 15, odd=b"***", twice=GOOD, own=GOOD + "1"),
        held("b", HOME, "lab", twice=GOOD, mine=GOOD + "3"),
        held("c", HOME, "vision", key=GOOD + "2"),
        held("d", "vision-dev", "on", key=GOOD + "4"),
        held("e", "lab", "sight", key=GOOD + "5"),
        held("f", HOME, "on", key=GOOD + "6"),
    ]
    taken = keys_of(bodies, Tenants(OWNERS.by_namespace, {"sight": None}), HOME)  # type: ignore[dict-item]
    listed = {
        digest(base64.b64decode(b["data"][k.key]).decode()): k.tenant
        for b in bodies
        for k in keys.lines(bodies, owners=OWNERS, home=HOME, now=NOW)
        if k.state is State.GOOD
        and (k.namespace, k.name) == (b["metadata"]["namespace"], b["metadata"]["name"])
    }
    assert listed == {d: t.removeprefix("namespace/") for d, t in taken.items()}
    assert len(listed) == 5


def test_no_line_tells_a_key() -> None:
    (line,) = keys.lines([held("a", HOME, "sight", one=GOOD)], owners=OWNERS, home=HOME, now=NOW)
    assert GOOD not in str(line)
    assert line.age_seconds == 120
