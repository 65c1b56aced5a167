"""Predictive autoscaling by a forecast alone: the request rate one load time ahead.

Two predictors that need no training: Holt's linear trend with damping (Gardner and McKenzie 1985),
and the same time of the day before, scaled by how today compares with it (seasonal naive). The one
that was less wrong of late decides. Nothing reacts to what is there: no queue, no failure.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from conch.simulate.policies.base import PolicyMaker, Setting, Tick
from conch.simulate.policies.options import Options, on_setting

LEVEL_GAIN = 0.2
TREND_GAIN = 0.05
DAMPING = 0.98
"""Share of the trend that is left after each step."""
RECENT = 40
"""Steps (ten minutes) over which today is compared with the day before."""
SPREAD = 3.0
"""At most so many times the day before, or so small a part of it."""
FORGETTING = 0.995
"""Share of the weight of a miss that is left after each step."""


@dataclass(frozen=True)
class ForecastSettings:
    """Rates are requests a second, times are seconds."""

    rate: float
    """What one replica serves, fully used."""
    horizon: float
    """How far ahead is looked: the load time."""
    share: float = 0.8
    """Of ``rate`` that is planned with: a forecast is never exact."""
    season: int = 86_400
    step: int = 15


@dataclass
class Holt:
    """Level and trend of a rate."""

    level: float | None = None
    trend: float = 0.0

    def learn(self, rate: float) -> None:
        """Take in the next step's rate."""
        if self.level is None:
            self.level = rate
            return
        ahead = self.level + DAMPING * self.trend
        level = ahead + LEVEL_GAIN * (rate - ahead)
        self.trend += TREND_GAIN * (level - self.level - self.trend)
        self.level = level

    def ahead(self, steps: int) -> float:
        """Return the rate so many steps from now."""
        reach = DAMPING * (1.0 - DAMPING**steps) / (1.0 - DAMPING)
        return max(0.0, (self.level or 0.0) + self.trend * reach)


@dataclass
class Season:
    """The rates of one season, newest last, and of what came just before."""

    length: int
    """Steps in a season."""
    rates: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        self.rates = deque(maxlen=self.length + RECENT)

    def learn(self, rate: float) -> None:
        """Take in the next step's rate."""
        self.rates.append(rate)

    def skip(self) -> None:
        """Take the next step, of which nothing is known, for what it was a season ago."""
        if self.rates:
            self.rates.append(self.rates[RECENT if len(self.rates) == self.rates.maxlen else -1])

    def ahead(self, steps: int) -> float | None:
        """Return the rate so many steps from now; None in the first season."""
        if len(self.rates) < self.length + RECENT or steps >= self.length:
            return None
        rates = list(self.rates)
        now, then = sum(rates[-RECENT:]), sum(rates[:RECENT])
        factor = now / then if then > 0 else 1.0
        first = RECENT + steps - 1 - RECENT // 8
        around = rates[max(0, first) : RECENT + steps + RECENT // 8]
        return sum(around) / len(around) * min(max(factor, 1.0 / SPREAD), SPREAD)


@dataclass
class Judged:
    """Forecasts that wait for their time, and how wrong earlier ones were."""

    miss: float = 0.0
    """Sum of absolute errors, older ones weighing less."""
    weight: float = 0.0
    open: deque[float | None] = field(default_factory=deque)

    def judge(self, rate: float, forecast: float | None, steps: int) -> None:
        """Hold the forecast made ``steps`` ago against the rate, and keep the new one."""
        if len(self.open) >= steps:
            past = self.open.popleft()
            if past is not None:
                self.miss = FORGETTING * self.miss + abs(past - rate)
                self.weight = FORGETTING * self.weight + 1.0
        self.open.append(forecast)

    @property
    def error(self) -> float:
        """Mean absolute error; infinite where nothing was judged yet."""
        return self.miss / self.weight if self.weight else math.inf


class Forecast:
    """The policy. It keeps what it asked for during the last load time, so as not to flap."""

    def __init__(self, settings: ForecastSettings) -> None:
        self.interval = float(settings.step)
        self._settings = settings
        self._steps = max(1, math.ceil(settings.horizon / settings.step))
        self._trend, self._season = Holt(), Season(max(1, settings.season // settings.step))
        self._by_trend, self._by_season = Judged(), Judged()
        self._wanted: deque[int] = deque(maxlen=self._steps)
        self._last = 0.0

    def replicas(self, tick: Tick) -> int:
        """Return the replicas for the rate that is expected once they are ready."""
        settings = self._settings
        self._skip(round((tick.now - self._last) / settings.step) - 1)
        self._last = tick.now
        expected = self.expect(tick.arrivals / tick.interval)
        self._wanted.append(math.ceil(expected / (settings.rate * settings.share) - 1e-9))
        return max(self._wanted)

    def _skip(self, steps: int) -> None:
        """Pass over steps without data: nothing but the season lasts."""
        if steps <= 0:
            return
        for _ in range(steps):
            self._season.skip()
        self._trend = Holt()
        self._wanted.clear()
        for judged in (self._by_trend, self._by_season):
            judged.open.clear()

    def expect(self, rate: float) -> float:
        """Return the rate one load time ahead, now that the last step's is known."""
        self._trend.learn(rate)
        self._season.learn(rate)
        trend, season = self._trend.ahead(self._steps), self._season.ahead(self._steps)
        self._by_trend.judge(rate, trend, self._steps)
        self._by_season.judge(rate, season, self._steps)
        if season is not None and self._by_season.error < self._by_trend.error:
            return season
        return trend


def maker(options: Options) -> PolicyMaker:
    """Return what ``forecast`` or ``forecast:share=1,season=168h`` means."""
    share = options.share("share", ForecastSettings.share)
    season = options.seconds("season", 86_400, least=60)
    step = options.seconds("step", 15, least=1)
    return on_setting(lambda setting: Forecast(_settings(setting, share, season, step)))


def _settings(setting: Setting, share: float, season: int, step: int) -> ForecastSettings:
    return ForecastSettings(setting.rate, setting.load_time, share=share, season=season, step=step)
