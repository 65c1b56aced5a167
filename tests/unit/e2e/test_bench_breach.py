import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from e2e.bench.breach import last_scrape, samples


class Prometheus(BaseHTTPRequestHandler):
    """Knows one series, of two pods one after the other."""

    def do_GET(self) -> None:
        (query,) = parse_qs(urlsplit(self.path).query)["query"]
        series = [{"values": [[11.5, "4"], [16.5, "7"]]}, {"values": [[6.5, "0"]]}]
        found = series if query == "pending[2m]" else []
        body = json.dumps({"data": {"result": found}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Prometheus)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_samples_come_in_the_order_of_their_scrapes(url: str) -> None:
    assert samples(url, "pending[2m]") == [(6.5, 0), (11.5, 4), (16.5, 7)]
    assert last_scrape(url, "pending[2m]") == 16.5


def test_nothing_was_scraped_yet(url: str) -> None:
    assert last_scrape(url, "other[2m]") == 0
