"""How good a network is, in figures between 0 and 1.

A score is a function of a network. It leaves the network as it found it and draws no random number, so when
and how often it is called changes nothing. Answers are counted in whole numbers, so how images are split into
batches changes nothing either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cpsc_core.data.labelled import Images, PlacedData

__all__ = [
    "Score",
    "Tally",
    "accuracies_by_class",
    "accuracy",
    "accuracy_by_class",
    "accuracy_on",
    "agreement_on",
    "evaluating",
    "held_out_accuracy",
    "predictions",
    "tally",
    "together",
]

Score = Callable[[nn.Module], Mapping[str, float]]

BATCH_SIZE = 512
TOP = 5
"""An answer is nearly right if its label has one of so many highest logits."""


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counted answers of a network, by true class."""

    counts_3C: Tensor
    """int64: images; those whose label has the highest logit; those whose label has one of the highest five.

    Of equal logits that of the lower class counts as higher, as argmax has it; one that is not a number as
    higher than all.
    """

    def __add__(self, other: Tally) -> Tally:
        """The answers on both sets of images."""
        return Tally(self.counts_3C + other.counts_3C)

    @property
    def accuracy(self) -> float:
        """Share of images whose highest logit is their label's."""
        return self._share(1)

    @property
    def top5(self) -> float | None:
        """Share of images whose label has one of the five highest logits; None without a sixth class."""
        return self._share(2) if self.counts_3C.shape[1] > TOP else None

    def _share(self, row: int) -> float:
        totals = self.counts_3C.sum(1).tolist()
        return int(totals[row]) / int(totals[0])


def tally(network: nn.Module, images: Images, on_step: Callable[[], None] = lambda: None) -> Tally:
    """The answers of a network on images that lie on its device. `on_step` is called after each batch."""
    counts: list[Tensor] = []
    with evaluating(network), torch.no_grad():
        for batch in images.batches(BATCH_SIZE):
            counts.append(_count(network(batch.images_BCHW).logits_BC, batch.labels_B))
            on_step()
    return Tally(torch.stack(counts).sum(0))


def accuracy(network: nn.Module, images: Images, on_step: Callable[[], None] = lambda: None) -> float:
    """Share of images whose highest logit is their label's."""
    return tally(network, images, on_step).accuracy


def held_out_accuracy(
    network: nn.Module,
    placed: PlacedData,
    splits: Sequence[str] = ("val", "test"),
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Top-1 accuracy of a network by split, on the device it lies on."""
    device = str(next(network.parameters()).device)
    return {split: accuracy(network, placed.load(split).to(device), on_step) for split in splits}


def accuracy_on(split: str, images: Images, on_step: Callable[[], None] = lambda: None) -> Score:
    """A score that gives `<split>_accuracy`, and `<split>_top5` where there are more than five classes."""

    def score(network: nn.Module) -> Mapping[str, float]:
        answers = tally(network, images, on_step)
        top5 = {} if answers.top5 is None else {f"{split}_top5": answers.top5}
        return {f"{split}_accuracy": answers.accuracy, **top5}

    return score


def accuracy_by_class(
    network: nn.Module,
    splits: Mapping[str, Images],
    class_names: Sequence[str],
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """What a network gets right: `classes`, and for each split `images`, `right` and `accuracy` by class.

    The accuracy of a class without images is null.
    """
    content: dict[str, Any] = {"classes": list(class_names)}
    for split, images in splits.items():
        seen, right, _ = tally(network, images, on_step).counts_3C.tolist()
        shares = [hits / count if count else None for hits, count in zip(right, seen, strict=True)]
        content[split] = {"images": seen, "right": right, "accuracy": shares}
    return content


def accuracies_by_class(
    student: nn.Module,
    teacher: nn.Module,
    splits: Mapping[str, Images],
    class_names: Sequence[str],
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """The content of per_class.json: `accuracy_by_class` of the student, with the teacher's as `teacher`."""
    taught = accuracy_by_class(teacher, splits, class_names, on_step)
    del taught["classes"]
    return accuracy_by_class(student, splits, class_names, on_step) | {"teacher": taught}


def agreement_on(probe: Images, teacher: nn.Module, on_step: Callable[[], None] = lambda: None) -> Score:
    """A score that gives `teacher_agreement`: the share of probe images that a network and the teacher put in
    the same class, whatever class they were made for. The teacher is asked once, here."""
    taught_B = predictions(teacher, probe, on_step)
    return lambda network: {"teacher_agreement": _share(predictions(network, probe, on_step) == taught_B)}


def together(*scores: Score) -> Score:
    """A score that gives everything that some scores give."""
    return lambda network: {name: value for score in scores for name, value in score(network).items()}


def predictions(network: nn.Module, images: Images, on_step: Callable[[], None] = lambda: None) -> Tensor:
    """The class with the highest logit for every image, in their order.

    `on_step` is called after each batch.
    """
    classes: list[Tensor] = []
    with evaluating(network), torch.no_grad():
        for batch in images.batches(BATCH_SIZE):
            classes.append(network(batch.images_BCHW).logits_BC.argmax(dim=1))
            on_step()
    return torch.cat(classes)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode; afterwards each layer is in the mode it was in."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _count(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """The counts of one batch, see Tally; waits for no device."""
    own_B1 = logits_BC.gather(1, labels_B[:, None])
    classes_C = torch.arange(logits_BC.shape[1], device=logits_BC.device)
    is_ahead_BC = ~(logits_BC <= own_B1) | ((logits_BC == own_B1) & (classes_C < labels_B[:, None]))
    place_B = is_ahead_BC.sum(1)
    answers_3B = torch.stack([place_B >= 0, place_B < 1, place_B < TOP]).long()
    empty_3C = torch.zeros(3, len(classes_C), dtype=torch.int64, device=logits_BC.device)
    return empty_3C.index_add_(1, labels_B, answers_3B)


def _share(truths_B: Tensor) -> float:
    return int(truths_B.sum()) / len(truths_B)
