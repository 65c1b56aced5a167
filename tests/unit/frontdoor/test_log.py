"""The log of HAProxy's workers comes whole, however it is cut on its way."""

import asyncio
from pathlib import Path

import pytest

from conch.frontdoor.log import Log, lines_of

TEXT = ["R a/b t 200", "W a/b:http", "é🐚", ""]


def framed(lines: list[str]) -> bytes:
    raw = [line.encode() for line in lines]
    return b"".join(b"%d %s" % (len(r), r) for r in raw)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_come_whole_however_they_are_cut(size: int) -> None:
    data, found, rest = framed(TEXT), [], b""
    for begin in range(0, len(data), size):
        lines, rest = lines_of(rest + data[begin : begin + size])
        found += lines
    assert (found, rest) == (TEXT, b"")


@pytest.mark.parametrize("data", [b"x abc", b"-3 abc", b"99999999 a", b" abc"])
def test_what_is_no_log_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"line of|base 10"):
        lines_of(data)


async def test_one_senders_nonsense_takes_nothing_from_others(tmp_path: Path) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    path = tmp_path / "log.sock"
    task = asyncio.create_task(Log(path, heard.put_nowait).run())
    await asyncio.sleep(0)
    _, good = await asyncio.open_unix_connection(path)
    reader, bad = await asyncio.open_unix_connection(path)
    bad.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await reader.read() == b"", "it is cut off"
    good.write(framed(["one", "two"]))
    assert [await heard.get(), await heard.get()] == ["one", "two"]
    for writer in (good, bad):
        writer.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
