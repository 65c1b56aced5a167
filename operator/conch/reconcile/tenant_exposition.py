"""What the operator shows of tenants, for Prometheus."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from conch.decisions.shares.usage import Account
from conch.metrics.tenants import CHARGED, CHARGES, LABELS, LABELS_BY_ACCELERATOR, TENANT
from conch.reconcile.tenant_status import TenantFigures


def tenant_metrics(tenants: Mapping[str, TenantFigures], now: float) -> Iterator[Metric]:
    """Yield the metrics of all tenants as of ``now``, in seconds since the epoch."""
    values = {name: _values(figures, now) for name, figures in tenants.items()}
    for figure, (metric, text) in TENANT.items():
        gauge = GaugeMetricFamily(metric, text, labels=LABELS)
        for name, of in values.items():
            if figure in of:
                gauge.add_metric((name,), of[figure])
        yield gauge
    accounts = {
        (name, accelerator): _account(account)
        for name, figures in tenants.items()
        for accelerator, account in figures.record.at(now).accounts.items()
    }
    for metrics, family in ((CHARGES, GaugeMetricFamily), (CHARGED, CounterMetricFamily)):
        for figure, (metric, text) in metrics.items():
            charged = family(metric, text, labels=LABELS_BY_ACCELERATOR)
            for key, of in accounts.items():
                charged.add_metric(key, of[figure])
            yield charged


def _values(figures: TenantFigures, now: float) -> dict[str, float]:
    standing, since = figures.standing, figures.waiting_since
    share = {} if standing.share is None else {"share": standing.share}
    return {
        "weight": figures.weight,
        "services": figures.services,
        "allocated": sum(a.gpus for a in figures.record.accounts.values()),
        "entitlement": standing.entitlement,
        "usage": figures.usage,
        "waiting": standing.waiting,
        "waiting_seconds": 0.0 if since is None else max(0.0, now - since),
        **share,
    }


def _account(account: Account) -> dict[str, float]:
    return {
        "gpus": account.gpus,
        "cost_per_hour": account.cost_per_hour,
        "gpu_hours": account.gpu_hours,
        "cost": account.cost,
    }
