"""CSV files by column, plain or compressed, and errors that name file and line."""

import csv
import gzip
import io
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GZIP = b"\x1f\x8b"
_SINCE_1970 = ((1e17, "nanoseconds", 9), (1e14, "microseconds", 6), (1e11, "milliseconds", 3))
"""From which value on a time can't be seconds: 1e11 s after 1970 is the year 5138."""


class TraceError(Exception):
    """A trace can't be used; the message says where and what to do."""


@dataclass(frozen=True)
class Table:
    """The wanted columns of a CSV file, as texts."""

    path: Path
    header: tuple[str, ...]
    """In small letters."""
    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def line(self, row: int) -> int:
        """Return the line of the file where a row (from 0) stands."""
        reader = csv.reader(_text(self.path))
        filled = (reader.line_num for cells in reader if cells)
        return next(line for number, line in enumerate(filled, -1) if number == row)

    def error(self, row: int, text: str) -> TraceError:
        """Return an error about a row."""
        return TraceError(f"{self.path}, line {self.line(row)}: {text}")

    def numbers(self, name: str) -> Floats:
        """Return a column of finite numbers. Raises TraceError."""
        found = _floats(self.columns[name])
        if found is None:
            row = next(i for i, text in enumerate(self.columns[name]) if _floats([text]) is None)
            raise self.error(row, f"{name} is {_shown(self.columns[name][row])}, no number")
        self.check(np.isfinite(found), name, "must be a finite number")
        return found

    def check(self, good: NDArray[np.bool_], name: str, rule: str) -> None:
        """Raise TraceError for the first row that is not good."""
        if not good.all():
            row = int(np.argmin(good))
            text = _shown(self.columns[name][row])
            raise self.error(
                row,
                f"{name} is {text}; it {rule}. Where nothing was recorded, leave the line out",
            )

    def times(self, name: str) -> tuple[Floats, bool]:
        """Return a column of times in seconds, and whether they are since 1970. Raises TraceError.

        A time is a number of seconds or ISO 8601; without a zone it is UTC.
        """
        texts = self.columns[name]
        numbers = _floats(texts)
        if numbers is not None:
            self.check(np.isfinite(numbers), name, "must be a time")
            return numbers, self._checked_unit(name, numbers)
        found = _moments(texts)
        if found is None:
            row = _odd_one(texts)
            raise self.error(
                row,
                f"{name} is {_shown(texts[row])}: write seconds, or ISO 8601 such as "
                "2026-03-29T09:30:00.25Z, the same in all rows",
            )
        return found, True

    def _checked_unit(self, name: str, numbers: Floats) -> bool:
        largest = float(np.max(numbers))
        for least, unit, digits in _SINCE_1970:
            if largest >= least:
                raise self.error(
                    int(np.argmax(numbers)),
                    f"{name} {largest:.0f} seems to be in {unit} since 1970: write seconds "
                    f"(divide by 1e{digits})",
                )
        return largest > 1e8

    def rising(self, name: str, times: Floats, *, strictly: bool = False) -> None:
        """Raise TraceError, with the way to sort, where times fall (or stay, if strictly)."""
        steps = np.diff(times)
        wrong = steps <= 0 if strictly else steps < 0
        if not wrong.any():
            return
        row = int(np.argmax(wrong)) + 1
        if steps[row - 1] == 0:
            raise self.error(row, f"{name} is that of the row before: write one row a window")
        raise self.error(
            row, f"{name} is before that of the row above. Sort the file: {self._sort(name)}"
        )

    def _sort(self, name: str) -> str:
        column = self.header.index(name) + 1
        show = "zcat" if _is_compressed(self.path) else "cat"
        general = "" if _floats(self.columns[name][:1]) is None else "g"
        file = self.path.name
        return (
            f"({show} {file} | head -n 1; {show} {file} | tail -n +2 | "
            f"LC_ALL=C sort -t, -s -k{column},{column}{general}) > sorted.csv"
        )


def read_table(path: Path, wanted: frozenset[str]) -> Table:
    """Return those of the wanted columns that a file has. Raises TraceError."""
    try:
        return _read(path, wanted)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise TraceError(f"{path} can't be read: {reason}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path} is no text: a trace is a CSV file, plain or .gz") from error
    except csv.Error as error:
        raise TraceError(f"{path} is no CSV file: {error}") from error


def _read(path: Path, wanted: frozenset[str]) -> Table:
    reader = csv.reader(_text(path))
    header = tuple(cell.strip().lower() for cell in next((r for r in reader if r), ()))
    if not header:
        raise TraceError(f"{path} is empty")
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise TraceError(f"{path}, line 1: columns must be separated by commas")
    places = {name: header.index(name) for name in header if name in wanted}
    columns: dict[str, list[str]] = {name: [] for name in places}
    pairs = [(columns[name].append, place) for name, place in places.items()]
    for cells in reader:
        try:
            for add, place in pairs:
                add(cells[place])
        except IndexError:
            if cells:
                raise TraceError(
                    f"{path}, line {reader.line_num}: {len(cells)} columns, where the first line "
                    f"names {len(header)}"
                ) from None
    if pairs and not any(columns.values()):
        raise TraceError(f"{path} has a first line with names and nothing after it")
    return Table(path, header, columns)


def _text(path: Path) -> Iterator[str]:
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        data = gzip.decompress(raw.read()) if packed else raw.read()
    return io.StringIO(data.decode("utf-8-sig"), newline="")


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as raw:
        return raw.read(2) == _GZIP


def _floats(texts: list[str]) -> Floats | None:
    try:
        return np.array(texts, dtype=np.float64)
    except ValueError:
        return None


def _moments(texts: list[str]) -> Floats | None:
    """Return times in ISO 8601 as seconds since 1970; fast where all are UTC by no word or Z."""
    plain = texts
    if texts[0].endswith("Z") and all(text.endswith("Z") for text in texts):
        plain = [text[:-1] for text in texts]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # numpy's, where a time has a zone
            found = np.array(plain, dtype="datetime64[ns]")
    except (ValueError, UserWarning):
        rows = [_moment(text) for text in texts]
        return None if None in rows else np.array(rows, dtype=np.float64)
    whole = found.astype(np.int64)
    return None if np.isnat(found).any() else whole // 10**9 + whole % 10**9 / 1e9


def _odd_one(texts: list[str]) -> int:
    """Return the first row that is no time as the rows before it are."""
    numbers = _floats(texts[:1]) is not None
    wrong = (i for i, t in enumerate(texts) if (_floats([t]) if numbers else _moment(t)) is None)
    return next(wrong, 0)


def _moment(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _shown(text: str) -> str:
    return repr(text) if text.strip() else "empty"
