import copy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from cpsc_core import evaluate as module
from cpsc_core.data.labelled import LabelledImages
from cpsc_core.evaluate import accuracy, accuracy_on, agreement_on, evaluating, predictions, together


class Linear(nn.Module):
    """Batch norm, dropout and a linear layer: each behaves otherwise in training."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(16, 3))

    def forward(self, x_BCHW: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits_BC=self.layers(x_BCHW))


@pytest.fixture
def images() -> LabelledImages:
    chance = torch.Generator().manual_seed(0)
    return LabelledImages(
        torch.randn(23, 1, 4, 4, generator=chance), torch.randint(0, 3, (23,), generator=chance)
    )


@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_accuracy_is_the_share_of_right_answers(
    images: LabelledImages, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", batch_size)
    network = Linear(0).eval()

    right = [
        int(network(image[None]).logits_BC.argmax()) == int(label)
        for image, label in zip(images.images_BCHW, images.labels_B, strict=True)
    ]

    assert accuracy(network.train(), images) == sum(right) / 23


def test_a_score_leaves_the_network_as_it_found_it(images: LabelledImages) -> None:
    network = Linear(0).train()
    network.layers[0].eval()
    state, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]

    accuracy(network, images)

    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_the_mode_is_restored_after_an_error() -> None:
    network = Linear(0).train()

    with pytest.raises(RuntimeError), evaluating(network):
        raise RuntimeError

    assert network.layers[2].training


def test_a_score_draws_no_random_number(images: LabelledImages) -> None:
    before = torch.random.get_rng_state()

    accuracy(Linear(0).train(), images)

    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_score_builds_no_graph(images: LabelledImages) -> None:
    with torch.enable_grad():
        assert not predictions(Linear(0), images).requires_grad


def test_the_teacher_agrees_with_itself_and_not_with_others(images: LabelledImages) -> None:
    teacher, other = Linear(0).eval(), Linear(1).eval()
    score = agreement_on(images, teacher)
    expected = (
        teacher(images.images_BCHW).logits_BC.argmax(1) == other(images.images_BCHW).logits_BC.argmax(1)
    ).sum()

    assert score(teacher) == {"teacher_agreement": 1.0}
    assert score(other) == {"teacher_agreement": int(expected) / 23}


def test_the_teacher_is_asked_once(images: LabelledImages) -> None:
    asked: list[int] = []
    teacher = Linear(0)
    teacher.register_forward_hook(lambda *_: asked.append(1))
    score = agreement_on(images, teacher)

    score(Linear(1))
    score(Linear(2))

    assert len(asked) == 1


def test_scores_together_give_everything(images: LabelledImages) -> None:
    network = Linear(0)

    figures = together(accuracy_on("val", images), agreement_on(images, network))(network)

    assert figures == {"val_accuracy": accuracy(network, images), "teacher_agreement": 1.0}
    assert together()(network) == {}


def test_every_batch_is_a_sign_of_life(images: LabelledImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", 10)
    signs: list[int] = []

    accuracy(Linear(0), images, lambda: signs.append(1))

    assert len(signs) == 3
