"""The network interface that ranks talk through."""

import os

import pytest

from cpsc_core.errors import RankError
from orchestrator.trial.interface import choose_interface, interface_of


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def test_an_interface_is_found_by_its_address() -> None:
    assert interface_of("127.0.0.1") == "lo"


def test_an_address_of_nobody_has_no_interface() -> None:
    assert interface_of("192.0.2.254") is None


def test_without_a_name_gloo_uses_the_interface_of_the_address_and_nccl_chooses() -> None:
    choose_interface(None, "127.0.0.1")

    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    assert "NCCL_SOCKET_IFNAME" not in os.environ


def test_what_the_machine_itself_is_set_to_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib7")

    choose_interface(None, "127.0.0.1")

    assert os.environ["GLOO_SOCKET_IFNAME"] == "ib7"


def test_a_named_interface_is_used_by_both() -> None:
    choose_interface("lo", "192.0.2.1")

    assert (os.environ["GLOO_SOCKET_IFNAME"], os.environ["NCCL_SOCKET_IFNAME"]) == ("lo", "lo")


def test_an_interface_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(
        RankError, match=r"no network interface 'ib9', only .*lo.*; change resources\.interface"
    ):
        choose_interface("ib9", "127.0.0.1")
