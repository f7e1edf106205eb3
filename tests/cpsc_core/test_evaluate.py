import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cpsc_core import evaluate as module
from cpsc_core.data.labelled import LabelledImages
from cpsc_core.data.pixels import HeldPixels
from cpsc_core.evaluate import (
    Tally,
    accuracy,
    accuracy_by_class,
    accuracy_on,
    agreement_on,
    evaluating,
    predictions,
    tally,
    together,
)
from cpsc_core.images import ImageSpec


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


def test_large_images_are_shown_few_at_a_time() -> None:
    images = LabelledImages(torch.zeros(9, 1, 256, 256), torch.arange(9) % 2)
    pixels = HeldPixels(
        torch.zeros(9, 1, 256, 256, dtype=torch.uint8),
        torch.arange(9) % 2,
        ImageSpec(num_classes=2, channels=1, size=256, mean=(0.5,), std=(0.5,)),
    )

    for each in (images, pixels):
        assert [len(batch) for batch in each.batches(64)] == [4, 4, 1]
        assert [len(batch) for batch in each.batches(1)] == [1] * 9


def test_every_batch_is_a_sign_of_life(images: LabelledImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_SIZE", 10)
    signs: list[int] = []

    accuracy(Linear(0), images, lambda: signs.append(1))

    assert len(signs) == 3


class Lookup(nn.Module):
    """Gives every image the logits that it consists of."""

    def forward(self, x_BCHW: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits_BC=x_BCHW.flatten(1))


def as_images(logits: list[list[float]], labels: list[int]) -> LabelledImages:
    return LabelledImages(torch.tensor(logits).view(len(logits), -1, 1, 1), torch.tensor(labels))


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[list[float]], list[int]]:
    """Logits with many ties, and labels."""
    classes, count = draw(st.integers(2, 12)), draw(st.integers(1, 20))
    logit = st.integers(-2, 2).map(float)
    rows = st.lists(logit, min_size=classes, max_size=classes)
    return (
        draw(st.lists(rows, min_size=count, max_size=count)),
        draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count)),
    )


@given(case=answers(), batch_size=st.integers(1, 7))
def test_answers_are_counted_as_if_every_image_were_sorted_by_hand(
    case: tuple[list[list[float]], list[int]], batch_size: int
) -> None:
    logits, labels = case
    best = [sorted(range(len(row)), key=lambda label, row=row: -row[label]) for row in logits]  # type: ignore[misc]
    first = [label == order[0] for label, order in zip(labels, best, strict=True)]
    nearly = [label in order[:5] for label, order in zip(labels, best, strict=True)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH_SIZE", batch_size)
        counted = tally(Lookup(), as_images(logits, labels))

    assert counted.accuracy == sum(first) / len(labels)
    assert counted.top5 == (sum(nearly) / len(labels) if len(logits[0]) > 5 else None)
    for label in range(len(logits[0])):
        column = [hit for hit, each in zip(first, labels, strict=True) if each == label]
        assert counted.counts_3C[:2, label].tolist() == [len(column), sum(column)]


@given(case=answers(), share=st.floats(0, 1))
def test_answers_on_parts_add_up_exactly(case: tuple[list[list[float]], list[int]], share: float) -> None:
    logits, labels = case
    cut = round(share * len(labels))
    none = Tally(torch.zeros(3, len(logits[0]), dtype=torch.int64))

    parts = [
        tally(Lookup(), as_images(logits[rows], labels[rows])) if labels[rows] else none
        for rows in (slice(cut), slice(cut, None))
    ]

    whole = tally(Lookup(), as_images(logits, labels))
    assert torch.equal((parts[0] + parts[1]).counts_3C, whole.counts_3C)


@pytest.mark.parametrize("broken", [[float("nan")] * 6, [float("nan")] + [0.0] * 5])
def test_a_network_that_gives_no_numbers_is_never_right(broken: list[float]) -> None:
    counted = tally(Lookup(), as_images([broken], [0]))

    assert (counted.accuracy, counted.top5) == (0.0, 0.0)


def test_five_of_more_than_five_classes_are_a_score() -> None:
    images = as_images([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]] * 3, [0, 4, 5])

    assert accuracy_on("val", images)(Lookup()) == {"val_accuracy": 1 / 3, "val_top5": 2 / 3}


def test_every_class_has_an_accuracy_of_its_own() -> None:
    images = as_images([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0, 1, 1])

    content = accuracy_by_class(Lookup(), {"val": images}, ["ant", "bee", "cat"])

    assert content == {
        "classes": ["ant", "bee", "cat"],
        "val": {"images": [1, 2, 0], "right": [1, 1, 0], "accuracy": [1.0, 0.5, None]},
    }
