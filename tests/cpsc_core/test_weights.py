from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from cpsc_core.data.digits import DIGITS
from cpsc_core.errors import TeacherError, UnknownNameError
from cpsc_core.images import ImageSpec
from cpsc_core.weights import build_network, fill_network, parse_tensors, read_checkpoint, save_tensors

HUNDRED = ImageSpec(num_classes=100, channels=1, size=16, mean=(0.5,), std=(0.5,))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return dict(build_network("resnet8", DIGITS.spec).state_dict())


def filled(tensors: dict[str, Tensor], path: Path, spec: ImageSpec = DIGITS.spec) -> nn.Module:
    network = build_network("resnet8", spec)
    fill_network(network, tensors, source=path, arch="resnet8")
    return network


def assert_equal(network: nn.Module, state: dict[str, Tensor]) -> None:
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_tensors_come_back_to_the_bit(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "w.safetensors"

    save_tensors(path, state)

    assert_equal(filled(parse_tensors(path.read_bytes(), path), path), state)


def test_equal_tensors_give_equal_files(tmp_path: Path, state: dict[str, Tensor]) -> None:
    first = save_tensors(tmp_path / "a", state)
    backwards = {name: state[name].clone() for name in reversed(state)}

    assert save_tensors(tmp_path / "b", backwards) == first
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_view_into_a_tensor_is_saved_as_what_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"

    save_tensors(path, {"w": torch.arange(6.0).view(2, 3).T})

    assert parse_tensors(path.read_bytes(), path)["w"].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("prefix", ["", "module.", "model.module._orig_mod."])
def test_a_state_dict_that_somebody_else_saved_is_read(
    tmp_path: Path, state: dict[str, Tensor], prefix: str
) -> None:
    path = tmp_path / "t.safetensors"
    safetensors.torch.save_file({prefix + key: tensor for key, tensor in state.items()}, path)

    assert_equal(filled(read_checkpoint(path), path), state)


def test_counters_of_batches_may_be_missing(tmp_path: Path, state: dict[str, Tensor]) -> None:
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}

    assert_equal(filled(old, tmp_path), state)


def test_half_precision_weights_become_single(tmp_path: Path, state: dict[str, Tensor]) -> None:
    network = filled({name: tensor.half() for name, tensor in state.items()}, tmp_path)

    assert network.state_dict()["linear.weight"].dtype == torch.float32
    assert torch.equal(network.state_dict()["linear.weight"], state["linear.weight"].half().float())


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    def raw(name: str, content: bytes) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return {
        "missing": (folder / "none.pt", "cannot be read: No such file"),
        "a directory": (folder, "cannot be read: Is a directory"),
        "no safetensors": (raw("t.safetensors", b"hello, this is text"), "is not a safetensors file"),
        "a huge header": (
            raw("h.safetensors", (2**60).to_bytes(8, "little") + b"{}"),
            "is not a safetensors file",
        ),
    }


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path, complaint in broken_files(tmp_path).values():
        with pytest.raises(TeacherError, match=complaint) as refused:
            read_checkpoint(path)
        assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"linear.weight": None}, r"t\.pt is not a resnet8: linear\.weight is missing"),
        ({"conv9.weight": torch.zeros(1)}, r"t\.pt is not a resnet8: conv9\.weight has no place in it"),
        (
            {"conv1.weight": torch.zeros(16, 3, 3, 3)},
            r"conv1\.weight should have shape \(16, 1, 3, 3\) but has \(16, 3, 3, 3\)$",
        ),
        ({"bn1.bias": torch.full((16,), torch.nan)}, r"not finite, the first in bn1\.bias"),
    ],
)
def test_weights_of_another_network_are_refused_by_tensor_and_shape(
    state: dict[str, Tensor], change: dict[str, Tensor | None], complaint: str
) -> None:
    tensors = {name: tensor for name, tensor in (state | change).items() if tensor is not None}

    with pytest.raises(TeacherError, match=complaint):
        filled(tensors, Path("t.pt"))


def test_weights_for_another_number_of_classes_are_refused_with_both_numbers(
    state: dict[str, Tensor],
) -> None:
    with pytest.raises(TeacherError, match="a classifier of 10 classes, where the data has 100"):
        filled(state, Path("t.pt"), HUNDRED)


def test_weights_of_another_of_our_networks_are_recognised() -> None:
    tensors = dict(build_network("resnet20", DIGITS.spec).state_dict())

    with pytest.raises(
        TeacherError, match=r"not a resnet8: .* has no place in it; it is a resnet20: set teach"
    ):
        filled(tensors, Path("t.pt"))


def test_an_unknown_network_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="nearest: resnet20"):
        build_network("resnt20", DIGITS.spec)
