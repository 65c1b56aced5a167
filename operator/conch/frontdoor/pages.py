"""Pages for callers: each service's own, and the list of services that a caller may ask. Pure.

One file of HTML each, without scripts and without anything from elsewhere.
"""

from collections.abc import Iterable, Sequence
from html import escape
from string import Template

from conch.api.model import Tensor
from conch.frontdoor import refusals
from conch.frontdoor.page import ServicePage
from conch.frontdoor.refusals import Refusal
from conch.frontdoor.samples import METADATA, Sample, samples

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # What is listed depends on the key.
    "Cache-Control": "private, no-store",
}
"""What the pages are to be sent with."""

_STYLE = """\
:root { color-scheme: light dark; --line: #c9c9c4; --code: #f3f3ef; --link: #0b57a4; }
@media (prefers-color-scheme: dark) { :root { --line: #4a4a48; --code: #232322; --link: #8cc1ff; } }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 2rem; } h3 { margin-bottom: .5rem; }
a { color: var(--link); } code, pre { font-family: ui-monospace, monospace; font-size: .875rem; }
td code, p code { overflow-wrap: anywhere; }
pre { background: var(--code); border: 1px solid var(--line); padding: .75rem; overflow-x: auto; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid var(--line); }
"""
_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<main>
<h1>$title</h1>
$body
</main>
</body>
</html>
""")

_GRPC_NAMES = {3: "INVALID_ARGUMENT", 5: "NOT_FOUND", 8: "RESOURCE_EXHAUSTED", 14: "UNAVAILABLE", 16: "UNAUTHENTICATED"}  # fmt: skip
_TOLD = (
    (refusals.NO_KEY, "no key, or one that is not known"),
    (refusals.NOT_FOUND, "no such service, model or path, or one that this key may not ask"),
    (refusals.TOO_LARGE, "the body is larger than the bound above"),
    (refusals.TOO_MANY, "above a limit of this service or of your tenant; ask later"),
    (refusals.WAITED, "no replica in time, or too many requests wait; ask later"),
)
_NAMESPACE = "namespace/"
"""Before the name of a tenant that is a namespace of no Tenant."""
_ERROR = '{"error": "…"}'
Row = Sequence[str]
"""Cells, in HTML."""


def docs_page(page: ServicePage) -> str:
    """Return the page of a service."""
    parts = [
        _text(f"Task: {page.task}") if page.task else "",
        _section("Address", _addresses(page)),
        _section("Inputs and outputs", _tensors(page)),
        _section("Examples", _examples(page)),
        _section("Bounds", _bounds(page)),
        _section("When the answer is not 200", _errors(page)),
        _section("Variants of the model", _variants(page)) if page.variants else "",
    ]
    return _html(page.title, filter(None, parts))


def index_page(pages: Iterable[ServicePage], tenant: str | None) -> str:
    """Return the list of services that a caller may ask; ``tenant`` is whose key it was, if any."""
    rows = [_index_row(p) for p in sorted(pages, key=lambda p: p.title)]
    heads = ("Service", "Task", "Model", "Key", "Address")
    listed = _table("Services", heads, rows) if rows else _text("There are none.")
    whose = (
        f"Services that tenant {tenant.removeprefix(_NAMESPACE)} may ask:"
        if tenant
        else "Services that need no key. With a key, yours are listed too."
    )
    return _html("Model services", [_text(whose), listed])


def index(pages: Iterable[ServicePage], tenant: str | None) -> dict[str, object]:
    """Return the same list for programs, to be sent as JSON."""
    return {"tenant": tenant, "services": [_entry(p) for p in sorted(pages, key=lambda p: p.title)]}


def _entry(page: ServicePage) -> dict[str, object]:
    return {
        "namespace": page.namespace,
        "name": page.name,
        "model": page.model,
        "task": page.task,
        "keys": page.keys,
        "url": page.url,
        "grpc": page.grpc,
        "openapi": f"{page.url}/openapi.json",
    }


def _index_row(page: ServicePage) -> Row:
    link = f'<a href="{escape(page.url)}/">{escape(page.title)}</a>'
    key = "needed" if page.keys else "none"
    return (link, escape(page.task or ""), escape(page.model), key, _code(page.url))


def _html(title: str, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return _PAGE.substitute(title=escape(title), style=_STYLE, body=body)


def _section(title: str, parts: Iterable[str]) -> str:
    inner = "\n".join(parts)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inner}\n</section>"


def _text(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _table(caption: str, heads: Row, rows: Iterable[Row]) -> str:
    """Return a table; ``caption`` names it for those who don't see it, cells are HTML."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in heads)
    body = "\n".join(
        f'<tr><th scope="row">{r[0]}</th>{"".join(f"<td>{c}</td>" for c in r[1:])}</tr>'
        for r in rows
    )
    return (
        f'<div class="wide"><table aria-label="{escape(caption)}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _addresses(page: ServicePage) -> Iterable[str]:
    hosts = [("HTTP by host", ", ".join(map(_code, page.hosts)))] if page.hosts else []
    metadata = f"{METADATA}: {page.title}"
    key = f"{_code('Authorization: Bearer KEY')} or {_code('X-API-Key: KEY')}, in gRPC as metadata"
    yield _table(
        "Address",
        ("What", "Where"),
        [
            ("HTTP", _code(page.url)),
            *hosts,
            ("gRPC", f"{_code(page.grpc)} with the metadata {_code(metadata)}"),
            ("Model", _code(page.model)),
            ("Key", key if page.keys else "none is needed"),
        ],
    )
    yield (
        "<p>Both speak the KServe v2 protocol (Open Inference Protocol). "
        f'<a href="{escape(page.url)}/openapi.json">OpenAPI description</a></p>'
    )


def _tensors(page: ServicePage) -> Iterable[str]:
    if page.note:
        yield _text(f"{page.note} Ask the server for them: the examples do.")
    for title, tensors in (("Inputs", page.inputs), ("Outputs", page.outputs)):
        if tensors:
            yield f"<h3>{title}</h3>"
            rows = [_tensor(page, t) for t in tensors]
            yield _table(title, ("Name", "Datatype", "Shape"), rows)
    if page.max_batch_size and page.described:
        yield _text(f"A batch holds 1 to {page.max_batch_size} items.")


def _tensor(page: ServicePage, tensor: Tensor) -> Row:
    batch = ["batch"] if page.max_batch_size else []
    sizes = [*batch, *("any" if n < 0 else str(n) for n in tensor.shape)]
    return (_code(tensor.name), _code(tensor.datatype), escape(" \u00d7 ".join(sizes)))


def _examples(page: ServicePage) -> Iterable[str]:
    if page.keys:
        yield f"<p>They take the key from the environment: {_code('export KEY=…')}</p>"
    for sample in samples(page):
        yield from _sample(sample)


def _sample(sample: Sample) -> Iterable[str]:
    title = escape(sample.title)
    yield f"<h3>{title}</h3>"
    # With the keyboard, what scrolls is reached only where it can have the focus.
    yield (
        f'<pre id="sample-{escape(sample.language)}" tabindex="0" role="region" '
        f'aria-label="{title}"><code>{escape(sample.text)}</code></pre>'
    )


def _bounds(page: ServicePage) -> Iterable[str]:
    bounds = page.bounds
    rate, most = bounds.requests_per_second, bounds.concurrent_requests
    rows = [
        ("Largest request body", bounds.body_bytes),
        ("Longest wait for a replica, one that sleeps included", f"{bounds.wait:g} s"),
        ("Longest silence of the model within a request or stream", f"{bounds.silence:g} s"),
        *([("Requests a second for each tenant", f"{rate:g}")] if rate else []),
        *([("Requests at a time for each tenant", str(most))] if most else []),
    ]
    yield _table("Bounds", ("What", "Bound"), [(escape(a), escape(b)) for a, b in rows])


def _errors(page: ServicePage) -> Iterable[str]:
    front = [(r, told) for r, told in _TOLD if page.keys or r is not refusals.NO_KEY]
    rows = [
        ("400", _grpc(3), "the model's server refuses the request, and says why"),
        *(_refusal(r, told) for r, told in front),
        ("502", _grpc(14), "the replica that took the request ended before it answered"),
        ("504", _grpc(14), "the model was silent for too long"),
    ]
    yield _table("When the answer is not 200", ("HTTP", "gRPC", "Meaning"), rows)
    later = f"{_code('Retry-After')} says in how many seconds to ask again."
    yield f"<p>The body is {_code(_ERROR)}; {later}</p>"


def _refusal(refusal: Refusal, told: str) -> Row:
    return (str(refusal.status), _grpc(refusal.grpc), escape(told))


def _grpc(code: int) -> str:
    return f"{code} {_GRPC_NAMES[code]}"


def _variants(page: ServicePage) -> Iterable[str]:
    rows = [
        (_code(v.name), escape(v.accuracy or "not stated"), "yes" if v.serves else "no")
        for v in page.variants
    ]
    yield _table("Variants of the model", ("Name", "Accuracy", "Answers now"), rows)
