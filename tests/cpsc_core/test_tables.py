import subprocess
import sys
from decimal import Decimal
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from cpsc_core import tables
from cpsc_core.errors import SettingsError, UnknownNameError
from cpsc_core.tables import DATA_SETS, METHODS, NETWORKS, Table, lookup, names


def offer(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    point = EntryPoint(name, value, "colours")
    monkeypatch.setattr(tables, "entry_points", lambda *, group: EntryPoints([point]).select(group=group))


@pytest.mark.parametrize("table", [NETWORKS, DATA_SETS, METHODS], ids=lambda table: table.noun)
def test_every_name_of_a_table_can_be_looked_up(table: Table) -> None:
    for name in table:
        assert callable(lookup(table, name)) or table is DATA_SETS


def test_names_are_sorted() -> None:
    assert names(NETWORKS) == [*sorted(NETWORKS), "timm:NAME", "torchvision:NAME"]
    assert {"resnet20", "wrn16_1", "vgg11", "resnet34"} <= set(names(NETWORKS))


def test_a_miss_lists_the_table_and_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match=r"'resnt20'.*resnet18, resnet20.*nearest: resnet20"):
        lookup(NETWORKS, "resnt20")


def test_a_name_with_a_library_stands_for_what_the_library_calls_it() -> None:
    table = Table("number", group="numbers", ours={"pi": "math:pi"}, libraries={"decimal": "decimal:Decimal"})

    assert lookup(table, "decimal:0.1")() == Decimal("0.1")
    assert list(table) == ["pi"]


@pytest.mark.parametrize("name", ["decimal", "decimal:", "binary:1", "pi:1", ":1"])
def test_what_only_looks_like_a_name_with_a_library_is_a_miss(name: str) -> None:
    table = Table("number", group="numbers", ours={"pi": "math:pi"}, libraries={"decimal": "decimal:Decimal"})

    with pytest.raises(UnknownNameError, match="there are pi, decimal:NAME"):
        lookup(table, name)


def test_an_installed_package_adds_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "tau", "math:tau")

    table = Table("colour", group="colours", ours={"pi": "math:pi"})

    assert names(table) == ["pi", "tau"]
    assert lookup(table, "tau") == pytest.approx(6.283185)


def test_a_package_of_another_group_adds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "tau", "math:tau")

    assert names(Table("smell", group="smells", ours={})) == []


def test_a_package_cannot_silently_replace_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "pi", "math:tau")

    with pytest.raises(
        SettingsError, match="colour 'pi' is math:pi, but an installed package offers math:tau"
    ):
        names(Table("colour", group="colours", ours={"pi": "math:pi"}))


def test_reading_the_names_needs_no_torch() -> None:
    program = "import sys, cpsc_core.tables as t; t.names(t.NETWORKS); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
