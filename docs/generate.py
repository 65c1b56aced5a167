"""Writes docs/reference/ and the chart's rules from the code: ``make docs``; tests compare them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conch.api.conditions import ConditionType
from conch.api.crd import KINDS, Kind, crd
from conch.cli.plugin_advice import ADVICE
from conch.metrics import rules

Schema = dict[str, Any]
PAGES = {
    "ModelService": "modelservice.md",
    "Model": "model.md",
    "GPUPool": "gpupool.md",
    "Tenant": "tenant.md",
    "ModelMigration": "modelmigration.md",
}
RULES = Path(__file__).parents[1] / "charts" / "conch" / "rules"
NOTE = "<!-- Generated from the code by `make docs`; do not edit. -->"
SPELLED = {
    "must be a duration such as 50ms": "duration",
    "must be cron with five fields (minute": "cron",
    "must be a duration of more than zero": "duration or cron",
    "must be the IANA name of a time zone": "time zone",
    "must be a quantity of zero or more": "quantity",
    "must be a number of bytes": "bytes",
    "must be a host name in lower-case letters": "host name",
    "must be the name of a Tenant or a namespace": "tenant",
    "must be the name of an object: lower-case letters": "name",
}
BOUNDS = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}


def pages() -> dict[str, str]:
    """Return the reference: file name and text."""
    kinds = {kind.kind: kind for kind in KINDS}
    made = {PAGES[name]: "\n".join(_page(kinds[name])) + "\n" for name in PAGES}
    return {**made, "conditions.md": "\n".join(_conditions()) + "\n"}


def _page(kind: Kind) -> Iterator[str]:
    versions = crd(kind)["spec"]["versions"]
    schema = versions[0]["schema"]["openAPIV3Schema"]
    yield f"# {kind.kind}"
    yield ""
    yield NOTE
    yield ""
    yield schema["description"]
    yield ""
    scope = "One namespace" if kind.namespaced else "The whole cluster"
    yield f"- Scope: {scope.lower()}. Short name: `{', '.join(kind.short)}`."
    if kind.kind == "Model":
        yield "- `ClusterModel` (short name `cmdl`, cluster-wide) has the same fields."
    yield "- Durations are such as `50ms`, `30s` or `1m30s`; quantities such as `500m`, `2` or `4Gi`."
    yield f"- In a cluster: `kubectl explain {kind.kind.lower()}.spec --recursive`"
    for part in ("spec", "status"):
        yield ""
        yield f"## {part}"
        yield ""
        yield "| field | type | default | meaning |"
        yield "|---|---|---|---|"
        yield from _rows(schema["properties"][part], part)


def _rows(schema: Schema, path: str) -> Iterator[str]:
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        where = f"{path}.{name}"
        default = "**required**" if name in required else _default(field)
        yield f"| `{where}` | {_type(field)} | {default} | {_meaning(field)} |"
        inner, suffix = _inner(field)
        if not _is_condition(inner):
            yield from _rows(inner, where + suffix)


def _inner(field: Schema) -> tuple[Schema, str]:
    if "items" in field:
        return field["items"], "[]"
    values = field.get("additionalProperties")
    return (values, ".*") if isinstance(values, dict) else (field, "")


def _is_condition(schema: Schema) -> bool:
    return "lastTransitionTime" in schema.get("properties", {})


def _type(field: Schema) -> str:
    told = [SPELLED[r["message"].split(",")[0]] for r in _rules(field) if _spelled(r)]
    if told:
        return told[0]
    if "enum" in field:
        return ", ".join(f"`{v}`" for v in field["enum"])
    if "items" in field:
        return f"list of {_type(field['items'])}"
    values = field.get("additionalProperties")
    if isinstance(values, dict):
        return f"map to {_type(values)}"
    return str(field.get("type", "any"))


def _rules(field: Schema) -> list[dict[str, str]]:
    return list(field.get("x-kubernetes-validations", ()))


def _spelled(rule: dict[str, str]) -> bool:
    """Tell whether a rule says of which type a text is."""
    return rule["message"].split(",")[0] in SPELLED


def _default(field: Schema) -> str:
    value = field.get("default")
    if value is None or isinstance(value, (dict, list)):
        return ""
    return f"`{json.dumps(value).strip(chr(34))}`"


def _meaning(field: Schema) -> str:
    inner = _inner(field)[0]
    text = field.get("description") or inner.get("description") or ""
    rules = [r["message"] for r in _rules(field) if not _spelled(r)]
    bounds = [words.format(field[k]) for k, words in BOUNDS.items() if k in field]
    if field.get("exclusiveMinimum"):
        bounds[0] = bounds[0].replace("≥", ">")
    parts = [text.rstrip("."), *rules, ", ".join(bounds)]
    return (
        ". ".join(p[0].upper() + p[1:] for p in parts if p).replace("|", "\\|").replace("\n", " ")
    )


def _sentence(text: str) -> str:
    """Return the text with a capital, unless it begins with a field or a URI."""
    first = text.split(maxsplit=1)[0].rstrip(";:,")
    return text[0].upper() + text[1:] if first.isalpha() and first.islower() else text


def _conditions() -> Iterator[str]:
    yield "# Conditions"
    yield ""
    yield NOTE
    yield ""
    yield "Every decision of Conch ends in a condition of the object that it is about, with a reason"
    yield "from the closed lists below and a message that holds the numbers. `kubectl conch explain`"
    yield "shows them together with what to do; `kubectl describe` and `kubectl wait` work as usual:"
    yield ""
    yield "```"
    yield "kubectl wait modelservice/digits --for=condition=Ready --timeout=120s"
    yield "```"
    yield ""
    yield "`Ready`, `Admitted`, `Loaded` and `ScalingActive` are well when `True`; `Reconciling` and"
    yield "`Stalled` are well when `False`, as kstatus has it. While nothing serves, `Ready` carries the"
    yield "reason of what keeps it from serving."
    for kind in ConditionType:
        yield ""
        yield f"## {kind}"
        yield ""
        yield "| reason | what it means | what to do |"
        yield "|---|---|---|"
        for reason, advice in ADVICE.items():
            if kind in advice.on:
                todo = advice.todo or "Nothing."
                yield f"| `{reason}` | {_cell(advice.means)} | {_cell(todo)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write the pages."""
    folder = Path(__file__).parent / "reference"
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
        print(folder.name + "/" + name)
    (RULES / "conch.rules.yaml").write_text(rules.text())
    (RULES / "conch.alerts.yaml").write_text(rules.alert_text())


if __name__ == "__main__":
    main()
