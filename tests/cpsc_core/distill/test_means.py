import io

import pytest
import torch

from cpsc_core.distill.means import RunningMeans


def add_all(means: RunningMeans, losses: list[float]) -> None:
    for loss in losses:
        means.add({"kl": torch.tensor(loss), "loss": torch.tensor(2 * loss, requires_grad=True)})


def test_means_are_those_of_all_steps() -> None:
    means = RunningMeans()

    add_all(means, [1.0, 2.0, 6.0])

    assert means.means() == {"kl": 3.0, "loss": 6.0}


def test_no_step_has_no_means() -> None:
    assert RunningMeans().means() == {}


def test_a_single_value_that_is_not_finite_shows() -> None:
    means = RunningMeans()

    add_all(means, [1.0, float("nan"), 2.0])

    assert not torch.tensor(means.means()["kl"]).isfinite()


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_means_go_on_to_the_bit_from_a_saved_state(stop: int) -> None:
    losses = [0.1, 1e-9, 3e7, 0.7, 1 / 3]
    whole, first, second = RunningMeans(), RunningMeans(), RunningMeans()
    add_all(whole, losses)
    add_all(first, losses[:stop])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)

    second.load_state_dict(torch.load(file, weights_only=True))
    add_all(second, losses[stop:])

    assert second.means() == whole.means()
