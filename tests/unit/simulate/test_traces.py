"""Traces as they are read, thinned, cut and drawn; and what is said of broken ones."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from conch.simulate.traces import TraceError, read_trace


def written(folder: Path, *lines: str, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def windows(folder: Path, *lines: str) -> Path:
    return written(folder, "start_s,rate_rps", *lines)


def test_rows_of_azure_are_read_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv.gz"
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n"
        "2023-11-16 18:17:04.0319600,3180,8\n"
        "2023-11-16 18:17:05.9799600,110,27\n"
    )
    path.write_bytes(gzip.compress(text.encode()))
    trace = read_trace(path)
    assert trace.arrivals(0) == pytest.approx([0.0, 0.052, 2.0], abs=1e-6)
    assert trace.span == pytest.approx(2.0)
    assert trace.gaps == ()
    assert trace.origin == pytest.approx(1700158623.97996)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("0.5", "3"),
        ("1700000000.5", "1700000003"),
        ("2023-11-14T22:13:20.5Z", "2023-11-14T23:13:23+01:00"),
        ("2023-11-14T22:13:20.5", "2023-11-14T22:13:23"),
        ("2023-11-14T22:13:20.5Z", "2023-11-14 22:13:23.000Z"),
        ("2023-11-14T22:13:20.5", "2023-11-14T23:13:23+01:00"),
    ],
)
def test_a_timestamp_is_seconds_or_iso_8601(tmp_path: Path, first: str, second: str) -> None:
    trace = read_trace(written(tmp_path, "timestamp", first, second))
    assert trace.arrivals(0) == pytest.approx([0.0, 2.5])


def test_rates_are_poisson_and_the_same_for_a_seed(tmp_path: Path) -> None:
    trace = read_trace(windows(tmp_path, "0,100", "600,0", "1200,300", "1800,0"))
    drawn = trace.arrivals(3)
    assert np.array_equal(drawn, trace.arrivals(3))
    assert not np.array_equal(drawn[:100], trace.arrivals(4)[:100])
    assert np.all(np.diff(drawn) >= 0)
    assert drawn.dtype == np.float64
    counts = np.histogram(drawn, [0, 600, 1200, 1800, 2400])[0]
    assert counts == pytest.approx([60_000, 0, 180_000, 0], rel=0.02)
    seconds = np.histogram(drawn, np.arange(1200, 1801))[0]
    assert seconds.var() / seconds.mean() == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize("variation", [0.5, 3.0])
def test_cv_is_that_of_the_gaps(tmp_path: Path, variation: float) -> None:
    path = written(tmp_path, "start_s,end_s,rate_rps,cv", f"0,3600,50,{variation}", "3600,7200,50,")
    drawn = read_trace(path).arrivals(1)
    gaps = np.diff(drawn[drawn < 3600])
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.1)
    poisson = np.diff(drawn[drawn > 3600])
    assert poisson.std() / poisson.mean() == pytest.approx(1.0, rel=0.05)


def test_thinning_keeps_the_shape(tmp_path: Path) -> None:
    trace = read_trace(windows(tmp_path, "0,100", "600,300"))
    thin = trace.thinned(20.0)
    assert thin.mean_rps == pytest.approx(20.0)
    counts = np.histogram(thin.arrivals(0), [0, 600, 1200])[0]
    assert counts == pytest.approx([6_000, 18_000], rel=0.05)
    assert trace.thinned(500.0) is trace


def test_counts_are_multiplied_into_poisson_rates(tmp_path: Path) -> None:
    path = written(tmp_path, "timestamp,value", "0,10", "300,30", "600,20", "900,20")
    trace = read_trace(path).scaled(50.0)
    assert trace.mean_rps == pytest.approx(50.0)
    counts = np.histogram(trace.arrivals(0), np.arange(0, 1201, 300))[0]
    assert counts == pytest.approx(750 * np.array([10, 30, 20, 20]), rel=0.05)
    fewer = trace.scaled(5.0)
    assert fewer.mean_rps == pytest.approx(5.0)


def test_rates_are_multiplied_and_as_uneven_as_before(tmp_path: Path) -> None:
    path = written(tmp_path, "start_s,end_s,rate_rps,cv", "0,3600,5,3")
    drawn = read_trace(path).scaled(50.0).arrivals(1)
    gaps = np.diff(drawn)
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(3.0, rel=0.1)


def test_rows_are_never_multiplied(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "timestamp", "0", "1", "2"))
    assert trace.scaled(50.0) is trace


def test_thinned_rows_are_some_of_the_rows(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "timestamp", *(f"{i / 10}" for i in range(10_001))))
    some = trace.thinned(5.0).arrivals(0)
    assert len(some) == pytest.approx(5_000, rel=0.05)
    assert set(some) < set(trace.arrivals(0))


def test_a_cut_starts_at_zero(tmp_path: Path) -> None:
    trace = read_trace(windows(tmp_path, "0,100", "600,0", "1200,300"))
    part = trace.cut(1000.0, 1500.0)
    drawn = part.arrivals(0)
    assert part.span == 500.0
    assert drawn.min() >= 200.0
    assert len(drawn) == pytest.approx(90_000, rel=0.02)
    assert trace.cut(100.0, 1e9).span == 1700.0


def test_counts_in_bins_are_kept(tmp_path: Path) -> None:
    bins = [f"2014-04-10 00:{minute:02}:00,{minute}.0" for minute in range(4, 60, 5)]
    trace = read_trace(written(tmp_path, "timestamp,value", *bins))
    counts = np.histogram(trace.arrivals(0), np.arange(13) * 300.0)[0]
    assert counts.tolist() == list(range(4, 60, 5))
    assert trace.span == 12 * 300


def test_windows_without_data_are_missing_not_zero(tmp_path: Path) -> None:
    trace = read_trace(windows(tmp_path, "0,10", "300,10", "600,10", "1500,10", "1800,10"))
    assert trace.gaps == ((900.0, 1500.0),)
    assert trace.span == 2100.0
    assert trace.known == 1500.0
    assert trace.mean_rps == pytest.approx(10.0)
    drawn = trace.arrivals(0)
    assert not np.any((drawn > 900) & (drawn < 1500))
    assert trace.cut(1000.0, 2000.0).gaps == ((0.0, 500.0),)
    (note,) = trace.notes
    assert "before line 5" in note
    with pytest.raises(TraceError, match="no data from 1000 s to 1400 s"):
        trace.cut(1000.0, 1400.0)


def test_windows_of_all_lengths_last_until_the_next(tmp_path: Path) -> None:
    trace = read_trace(windows(tmp_path, "0,10", "60,10", "600,10", "3600,10"))
    assert trace.gaps == ()
    assert trace.span == 6600.0


SERVEGEN = "client,window_start_s,rate_rps,cv,dist,param1,param2"


def servegen(tmp_path: Path) -> Path:
    # The scales are not those of the rates, as in a fifth of the real file.
    return written(
        tmp_path,
        SERVEGEN,
        *(f"0,{start},5,3.16,Gamma,0.1,9" for start in (0, 600, 1200, 3000)),
        *(f"1,{start},10,2.2,Weibull,0.5,9" for start in (0, 600, 3000)),
    )


def test_clients_are_summed_with_their_counts(tmp_path: Path) -> None:
    trace = read_trace(servegen(tmp_path))
    counts = np.histogram(trace.arrivals(0), np.arange(7) * 600.0)[0]
    assert counts.tolist() == [9000, 9000, 3000, 0, 0, 9000]
    assert trace.gaps == ((1800.0, 3000.0),)
    assert trace.mean_rps == pytest.approx(12.5)


def test_gaps_of_clients_have_the_distribution_given(tmp_path: Path) -> None:
    lines = [f"0,{i * 600},100,0,{{}},{{}},1" for i in range(3)]
    for dist, shape, variation in (("Gamma", 0.25, 2.0), ("Weibull", 0.5, 5**0.5)):
        path = written(tmp_path, SERVEGEN, *(line.format(dist, shape) for line in lines))
        gaps = np.diff(read_trace(path).arrivals(0))
        assert gaps.mean() == pytest.approx(0.01, rel=0.01)
        assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.05)


def test_thinned_clients_keep_counts_and_bursts(tmp_path: Path) -> None:
    # A sum of Gamma gaps is drawn at once: it must look like coins flipped for each request.
    lines = [f"0,{i * 600},50,0,Gamma,0.05,1" for i in range(20)]
    whole = read_trace(written(tmp_path, SERVEGEN, *lines))
    thin = whole.thinned(10.0).arrivals(1)
    flipped = whole.arrivals(2)
    flipped = flipped[np.random.default_rng(0).random(len(flipped)) < 0.2]
    assert len(thin) == pytest.approx(120_000, rel=0.01)
    bins = np.arange(0, 12_001, 10.0)
    spread = [np.histogram(times, bins)[0].std() for times in (thin, flipped)]
    assert spread[0] == pytest.approx(spread[1], rel=0.15)


def test_gaps_too_small_for_floats_are_spread(tmp_path: Path) -> None:
    lines = [f"0,{i * 600},0.01,30,Gamma,0.0001,1" for i in range(200)]
    drawn = read_trace(written(tmp_path, SERVEGEN, *lines)).arrivals(0)
    assert len(drawn) == 1200
    assert np.all(np.isfinite(drawn))


def test_a_day_of_fifty_a_second_is_drawn_quickly(tmp_path: Path) -> None:
    lines = [f"{c},{i * 600},5,3,Gamma,0.1,1" for c in range(10) for i in range(144)]
    drawn = read_trace(written(tmp_path, SERVEGEN, *lines)).arrivals(0)
    assert len(drawn) == 4_320_000


BROKEN = {
    "empty": ([""], "is empty"),
    "only a header": (["timestamp"], "nothing after it"),
    "no header": (["0.5", "0.7"], "line 1: the first line must name the columns"),
    "no known column": (["when,what", "1,2"], "line 1: no known column among 'when', 'what'"),
    "unit in the name": (["timestamp_ms", "1"], "line 1: column 'timestamp_ms' is in another unit"),
    "semicolons": (["start_s;rate_rps", "1;2"], "line 1: columns must be separated by commas"),
    "unsorted": (
        ["timestamp,x", "1,a", "3,b", "", "2,c"],
        r"line 5: timestamp is before .* sort -t, -s -k1,1g\) > sorted.csv",
    ),
    "unsorted windows": (["rate_rps,start_s", "1,0", "1,60", "1,30"], "line 4: .* -k2,2g"),
    "no time": (["timestamp", "1", "noon"], "line 3: timestamp is 'noon': write seconds"),
    "no ISO time": (["timestamp", "11/16/2023 6:17 PM", "x"], "line 2: timestamp is '11/16/2023"),
    "empty time": (["timestamp,x", "1,a", ",b"], "line 3: timestamp is empty"),
    "not a number": (["timestamp", "1", "nan"], "line 3: timestamp is 'nan'; it must be a time"),
    "milliseconds": (["timestamp", "1700000000000"], "line 2: .* milliseconds since 1970.*1e3"),
    "microseconds": (["timestamp", "1700000000000000"], "microseconds since 1970.*1e6"),
    "nanoseconds": (["start_s,rate_rps", "1700000000000000000,1"], "nanoseconds since 1970.*1e9"),
    "one moment": (["timestamp", "1", "1"], "all requests have one timestamp"),
    "negative rate": (
        ["start_s,rate_rps", "0,1", "60,-1"],
        "line 3: rate_rps is '-1'; it must not",
    ),
    "NaN rate": (
        ["start_s,rate_rps", "0,1", "60,NaN"],
        "line 3: rate_rps is 'NaN'; it must be a fin",
    ),
    "no rate": (["start_s,rate_rps", "0,1", "60,"], "line 3: rate_rps is empty, no number"),
    "negative cv": (["start_s,rate_rps,cv", "0,1,1", "60,1,-2"], "line 3: cv is '-2'"),
    "cv is a word": (["start_s,rate_rps,cv", "0,1,high"], "line 2: cv is 'high', no number"),
    "twice": (["start_s,rate_rps", "0,1", "0,1"], "line 3: start_s is that of the row before"),
    "one window": (["start_s,rate_rps", "0,1"], "one window and no end_s"),
    "ends early": (["start_s,end_s,rate_rps", "5,5,1"], "line 2: end_s is '5'; it must be after"),
    "overlap": (["start_s,end_s,rate_rps", "0,9,1", "5,9,1"], "line 2: end_s is '9'; it must not"),
    "short row": (
        ["start_s,rate_rps", "0,1", "60"],
        "line 3: 1 columns, where the first line names 2",
    ),
    "half a request": (
        ["timestamp,count", "0,1", "60,0.5"],
        "line 3: count is '0.5'; it must be a wh",
    ),
    "other distribution": ([SERVEGEN, "0,0,1,1,Pareto,1,1"], "line 2: dist is 'Pareto'"),
    "no shape": ([SERVEGEN, "0,0,1,1,Gamma,0,1"], "line 2: param1 is '0'"),
    "client twice": (
        [SERVEGEN, "0,0,1,1,Gamma,1,1", "0,0,1,1,Gamma,1,1"],
        "line 3: window_start_s 0 of client 0 comes twice",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_trace_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    lines, message = BROKEN[case]
    with pytest.raises(TraceError, match=message) as error:
        read_trace(written(tmp_path, *lines))
    assert "trace.csv" in str(error.value)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"absent\.csv can't be read: No such file"):
        read_trace(tmp_path / "absent.csv")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"timestamp\n" + b"1\n" * 9999)[:50])
    with pytest.raises(TraceError, match=r"cut\.csv\.gz can't be read"):
        read_trace(tmp_path / "cut.csv.gz")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe\n")
    with pytest.raises(TraceError, match=r"picture\.csv is no text"):
        read_trace(tmp_path / "picture.csv")


def test_what_looks_odd_is_said(tmp_path: Path) -> None:
    slow = read_trace(written(tmp_path, "timestamp", *(f"{i * 40}" for i in range(200))))
    assert "divide them by 1000" in slow.notes[0]
    steps = [*range(600), *range(9000, 9600)]
    silent = read_trace(written(tmp_path, "timestamp", *map(str, steps)))
    assert "silent for 8401 s before line 602" in silent.notes[0]


def test_too_many_requests_are_refused_before_they_are_drawn(tmp_path: Path) -> None:
    trace = read_trace(windows(tmp_path, "0,1e7", "3600,1e7"))
    with pytest.raises(TraceError, match=r"7.2e\+10 requests.*thin it"):
        trace.arrivals(0)
