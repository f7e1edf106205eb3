"""How good a network is, in figures between 0 and 1.

A score is a function of a network. It leaves the network as it found it and draws no random number, so when
and how often it is called changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cpsc_core.data.labelled import LabelledImages

__all__ = ["Score", "accuracy", "accuracy_on", "agreement_on", "evaluating", "predictions", "together"]

Score = Callable[[nn.Module], Mapping[str, float]]

BATCH_SIZE = 512


def accuracy(network: nn.Module, images: LabelledImages, on_step: Callable[[], None] = lambda: None) -> float:
    """Share of images whose highest logit is their label's."""
    return _share(predictions(network, images, on_step) == images.labels_B)


def accuracy_on(split: str, images: LabelledImages, on_step: Callable[[], None] = lambda: None) -> Score:
    """A score that gives `<split>_accuracy` on images that lie on the network's device."""
    return lambda network: {f"{split}_accuracy": accuracy(network, images, on_step)}


def agreement_on(
    probe: LabelledImages, teacher: nn.Module, on_step: Callable[[], None] = lambda: None
) -> Score:
    """A score that gives `teacher_agreement`: the share of probe images that a network and the teacher put in
    the same class, whatever class they were made for. The teacher is asked once, here."""
    taught_B = predictions(teacher, probe, on_step)
    return lambda network: {"teacher_agreement": _share(predictions(network, probe, on_step) == taught_B)}


def together(*scores: Score) -> Score:
    """A score that gives everything that some scores give."""
    return lambda network: {name: value for score in scores for name, value in score(network).items()}


def predictions(
    network: nn.Module, images: LabelledImages, on_step: Callable[[], None] = lambda: None
) -> Tensor:
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


def _share(truths_B: Tensor) -> float:
    return int(truths_B.sum()) / len(truths_B)
