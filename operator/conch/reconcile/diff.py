"""Whether a live object already says what Conch wants, so that no write is needed."""

import hashlib
import json
from typing import Any

from conch.api.base import parse_quantity
from conch.api.names import ANNOTATION_APPLIED

_KEYS = ("name", "key", "containerPort", "port", "uid")
"""What identifies an item of a list that others may add to."""
_WHOLE = ("selector", "matchLabels")
"""Maps that the API server takes as one: a label that another adds to a selector ends its traffic."""


def digest(body: dict[str, Any]) -> str:
    """Return the digest of a wish."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stamped(body: dict[str, Any]) -> dict[str, Any]:
    """Return the wish with its digest in an annotation.

    The digest tells of fields that Conch owned and now leaves out, which ``covers`` can't see.
    """
    metadata = body["metadata"]
    annotations = {**metadata.get("annotations", {}), ANNOTATION_APPLIED: digest(body)}
    return {**body, "metadata": {**metadata, "annotations": annotations}}


def covers(live: Any, wish: Any) -> bool:
    """Tell whether ``live`` holds everything that ``wish`` says; what it has besides is others'.

    Lists of named items match by name, other lists item by item; quantities by their value.
    """
    if isinstance(wish, dict):
        return isinstance(live, dict) and all(
            (k in live and covers(live[k], v) and not (k in _WHOLE and _has_more(live[k], v)))
            or (k not in live and _empty(v))
            for k, v in wish.items()
        )
    if isinstance(wish, list):
        return isinstance(live, list) and _list_covers(live, wish)
    return bool(live == wish) or _same_quantity(live, wish)


def _has_more(live: Any, wish: Any) -> bool:
    return isinstance(live, dict) and isinstance(wish, dict) and not live.keys() <= wish.keys()


def _empty(value: Any) -> bool:
    return value is None or value in ({}, [], "", False, 0)


def _list_covers(live: list[Any], wish: list[Any]) -> bool:
    key = next(
        (k for k in _KEYS if wish and all(isinstance(w, dict) and k in w for w in wish)), None
    )
    if key is None:
        return len(live) == len(wish) and all(map(covers, live, wish))
    by_key = {item.get(key): item for item in live if isinstance(item, dict)}
    if len({w[key] for w in wish}) != len(wish):
        return len(live) == len(wish) and all(map(covers, live, wish))
    return all(w[key] in by_key and covers(by_key[w[key]], w) for w in wish)


def _same_quantity(live: Any, wish: Any) -> bool:
    try:
        return parse_quantity(str(live)) == parse_quantity(str(wish))
    except ValueError:
        return False
