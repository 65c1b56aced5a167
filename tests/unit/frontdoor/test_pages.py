"""The pages as HTML: well-formed, whole, without scripts, and nothing of a name is markup."""

from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conch.frontdoor import refusals
from conch.frontdoor.page import page_of
from conch.frontdoor.pages import HEADERS, docs_page, index, index_page
from conch.frontdoor.samples import samples
from e2e.page_samples import samples_in
from tests.unit.frontdoor.callers import (
    ADDRESSES,
    NASTY,
    Object,
    model,
    names,
    page,
    service,
    tensors,
)

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Parsed(HTMLParser):
    """A page's elements, attributes and text; raises where elements don't nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def values(self, tag: str, attribute: str) -> list[str]:
        return [v for t, a, v in self.attributes if (t, a) == (tag, attribute)]


def test_a_page_says_all_that_callers_need() -> None:
    limits = {"requestsPerSecond": 2.5, "concurrentRequests": 4}
    endpoint = {"limits": limits, "hosts": ["digits.example"], "maxBody": "1Mi", "timeout": "5s"}
    told = Parsed(docs_page(page_of(service(endpoint, variant="fp32"), model(), ADDRESSES)))
    for words in (
        "vision/answers",
        "Task: image-classification",
        "http://conch-front-door.conch-system.svc/vision/answers",
        "conch-front-door.conch-system.svc:8001 with the metadata conch-service: vision/answers",
        "digits.example",
        "Authorization: Bearer KEY",
        "image FP32 batch \u00d7 64",
        "probabilities FP32 batch \u00d7 10",
        "A batch holds 1 to 8 items.",
        "Largest request body 1Mi",
        "Longest silence of the model within a request or stream 5 s",
        "Requests a second for each tenant 2.5",
        "Requests at a time for each tenant 4",
        "fp32 top1 0.9956 on digits-test yes",
        "int8 not stated no",
        "401 16 UNAUTHENTICATED",
        "429 8 RESOURCE_EXHAUSTED",
    ):
        assert words in told.words, words


def test_free_dimensions_and_no_batch() -> None:
    free = {"name": "x", "datatype": "BYTES", "shape": [-1, 2]}
    told = Parsed(docs_page(page([free], batch=0))).words
    assert "x BYTES any \u00d7 2" in told
    assert "batch" not in told.lower().partition("examples")[0]


def test_an_open_service_asks_for_no_key() -> None:
    told = Parsed(docs_page(page(access="Open"))).words
    assert "Key none is needed" in told
    assert "KEY" not in told
    assert "401" not in told


def test_a_missing_model_is_told() -> None:
    told = Parsed(docs_page(page_of(service(), None, ADDRESSES)))
    assert "There is no Model digits at present" in told.words
    assert "Inputs Name" not in told.words
    assert len(samples_in(docs_page(page_of(service(), None, ADDRESSES)))) == 4


@pytest.mark.parametrize("text", [docs_page(page()), index_page([page()], "vision")])
def test_pages_hold_all_that_they_need(text: str) -> None:
    told = Parsed(text)
    assert not set(told.tags) & {"script", "link", "img", "iframe", "form", "object", "base"}
    assert not any(name.startswith("on") for _, name, _ in told.attributes)
    assert "@import" not in text
    assert "url(" not in text
    assert len(text) < 20_000
    assert "script-src" not in HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize("text", [docs_page(page()), index_page([page()], "vision")])
def test_pages_can_be_used_without_eyes_or_a_mouse(text: str) -> None:
    told = Parsed(text)
    assert told.values("html", "lang") == ["en"]
    assert told.tags["main"] == told.tags["h1"] == told.tags["title"] == 1
    assert told.values("meta", "name") == ["viewport"]
    assert len(told.values("table", "aria-label")) == told.tags["table"]
    assert len(told.values("th", "scope")) == told.tags["th"]
    assert told.values("pre", "tabindex") == ["0"] * told.tags["pre"]
    assert len({*told.values("pre", "aria-label")}) == told.tags["pre"]
    assert "color-scheme: light dark" in text


def test_links() -> None:
    described = "http://conch-front-door.conch-system.svc/vision/answers/openapi.json"
    assert Parsed(docs_page(page())).values("a", "href") == [described]
    found = Parsed(index_page([page()], None)).values("a", "href")
    assert found == ["http://conch-front-door.conch-system.svc/vision/answers/"]


def test_samples_survive_the_html() -> None:
    nasty = [{"name": n, "datatype": "FP32", "shape": [1]} for n in NASTY]
    found = page(nasty)
    assert samples_in(docs_page(found)) == {s.language: s.text for s in samples(found)}


@settings(max_examples=30)
@given(tensors, tensors, names | st.none())
def test_no_name_is_markup(inputs: list[Object], outputs: list[Object], task: str | None) -> None:
    told = Parsed(docs_page(page(inputs, outputs, task=task)))
    mild = [[{**t, "name": "x"} for t in given] for given in (inputs, outputs)]
    same = Parsed(docs_page(page(*mild, task=task and "x")))
    assert told.tags == same.tags
    assert [a[:2] for a in told.attributes] == [a[:2] for a in same.attributes]
    assert told.attributes == same.attributes
    # A carriage return is a line's end in HTML.
    shown = told.words
    for tensor in (*inputs, *outputs):
        assert " ".join(tensor["name"].split()) in shown


def test_hosts_and_tenants_are_escaped_too() -> None:
    found = replace(page(), hosts=("<b>",), note="<i>", task="<u>")
    told = Parsed(docs_page(found) + "")
    assert not {"b", "i", "u"} & set(told.tags)
    assert "s" not in Parsed(index_page([found], "<s>")).tags


def test_the_list_is_in_order_and_says_whose_it_is() -> None:
    other = replace(page(access="Open"), name="aaa", url="http://x/vision/aaa")
    told = Parsed(index_page([page(task="t1"), other], "medicine"))
    assert "Services that tenant medicine may ask" in told.words
    assert told.words.index("vision/aaa") < told.words.index("vision/answers")
    assert "vision/answers t1 digits needed" in told.words
    assert "vision/aaa digits none" in told.words
    assert "tenant lab may ask" in Parsed(index_page([], "namespace/lab")).words
    none = Parsed(index_page([], None)).words
    assert "With a key, yours are listed too. There are none." in none


def test_the_list_for_programs() -> None:
    assert index([page(task="t")], "vision") == {
        "tenant": "vision",
        "services": [
            {
                "namespace": "vision",
                "name": "answers",
                "model": "digits",
                "task": "t",
                "keys": True,
                "url": "http://conch-front-door.conch-system.svc/vision/answers",
                "grpc": "conch-front-door.conch-system.svc:8001",
                "openapi": "http://conch-front-door.conch-system.svc/vision/answers/openapi.json",
            }
        ],
    }
    assert index([], None) == {"tenant": None, "services": []}


def test_the_table_of_errors_is_true_to_the_front_door() -> None:
    told = Parsed(docs_page(page())).words
    for refusal in (refusals.NO_KEY, refusals.NOT_FOUND, refusals.TOO_LARGE, refusals.WAITED):
        assert f" {refusal.status} {refusal.grpc} " in told
