"""Replicas that take no GPU are no matter of quotas, and CPUs take only what finds no GPU."""

from dataclasses import replace

from conch.decisions.fleet import Amounts, Shape
from conch.decisions.shares import Tenant
from tests.unit.decisions.shares.fleets import World, pool

CPU = pool("cpu", nodes=(0,), sharing={"mode": "CPU"}, relativeSpeed=99)
SHAPES = {
    "a100": Shape(Amounts(1, 0.1, 1.0, 1), ()),
    "cpu": Shape(Amounts(0, 0.1, 1.0, 1), ()),
}


def granted(world: World, name: str) -> dict[str, int]:
    return {p: n for p, n in world.decide().grants[world.claims[name].key].replicas.items() if n}


def world(gpus: int, **wishes: int) -> World:
    made = World([pool(nodes=(gpus,)), CPU])
    for name, wished in wishes.items():
        made.want(name, wished, indifferent=True)
        made.claims[name] = replace(made.claims[name], shapes=SHAPES)
    return made


def test_gpus_are_taken_first_though_no_quota_is_owed() -> None:
    assert granted(world(2, one=1), "one") == {"a100": 1}


def test_what_finds_no_gpu_runs_on_cpus() -> None:
    assert granted(world(2, one=3), "one") == {"a100": 2, "cpu": 1}


def test_so_it_does_where_gpus_are_contended() -> None:
    both = world(2, one=2, two=2)
    assert granted(both, "one") == {"a100": 1, "cpu": 1}
    assert granted(both, "two") == {"a100": 1, "cpu": 1}


def test_a_quota_is_owed_in_gpus() -> None:
    both = world(2, one=2, two=2)
    both.tenants = {"two": Tenant("two", quota={"a100": 2.0})}
    assert granted(both, "two") == {"a100": 2}
    assert granted(both, "one") == {"cpu": 2}
