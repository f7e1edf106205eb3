"""Why a teacher scores less than it should: found by scoring it on the same images read in other ways.

Weights say nothing of how their images were normalised, in which order their channels and classes were. Each
guess is tried on some held-out images; what scores much better is very likely what was meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cpsc_core.data.labelled import Images, LabelledImages
from cpsc_core.data.normalization import NORMALIZATIONS
from cpsc_core.errors import TeacherError
from cpsc_core.evaluate import evaluating
from cpsc_core.images import ImageSpec

__all__ = ["Reading", "best_reading", "check_accuracy"]

TOLERANCE = 0.02
"""A teacher may score so much less than expected: other images of the same kind, other decoders."""
CLEARLY_BETTER = 0.05
"""A reading that gains so much is what was meant."""
_ADVICES = 3
_TRY = "try normalization: "
_SAMPLE = 1000
_BATCH = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A way to read the images, and what the teacher makes of them then."""

    accuracy: float
    """Share of the sample that it gets right."""
    advice: str
    """What to change in the experiment file; empty for the way it says now."""


def check_accuracy(
    network: nn.Module,
    images: Images,
    spec: ImageSpec,
    class_names: Sequence[str],
    *,
    measured: float,
    expected: float | None,
) -> None:
    """Raise TeacherError with the likely reason if a teacher scores less on some images than it should.

    With an expected accuracy that is what counts. Without, it has to be better than guessing, and no other
    reading of the images may be clearly better.
    """
    if expected is not None and measured >= expected - TOLERANCE:
        return
    now, best = best_reading(network, images, spec, class_names)
    gains = best.accuracy >= now.accuracy + CLEARLY_BETTER
    chance = 1 / spec.num_classes
    guesses = measured < min(2 * chance, (1 + chance) / 2)
    if expected is None and not gains and not guesses:
        return
    wanted = "" if expected is None else f"{expected:.1%} expected, "
    reason = (
        f"{best.advice} ({best.accuracy:.1%} of {min(_SAMPLE, len(images))} images are right then)"
        if gains
        else "no other normalisation, order of channels or of classes does better: are these the classes and "
        "images it was trained on, and is teacher.arch what it is?"
    )
    raise TeacherError(
        f"the teacher is not what it should be: {wanted}{measured:.1%} measured: {reason}"
        + ("; if it is meant to be so, set teacher.expected_accuracy" if expected is None else "")
    )


def best_reading(
    network: nn.Module, images: Images, spec: ImageSpec, class_names: Sequence[str]
) -> tuple[Reading, Reading]:
    """How a teacher does on a sample of images as they are, and in the way it does best with."""
    sample = _sample(images)
    with evaluating(network), torch.no_grad():
        now = _Seen(network, sample, lambda x_BCHW: x_BCHW)
        readings = [Reading(accuracy=now.accuracy, advice="")]
        seen = [now]
        for advice, change in _changes(spec):
            seen.append(_Seen(network, sample, change))
            readings.append(Reading(accuracy=seen[-1].accuracy, advice=advice))
    readings += [each for one in seen if (each := one.in_order(class_names)) is not None]
    best = max(readings, key=lambda reading: reading.accuracy)
    if best.advice.startswith(_TRY):
        best = replace(best, advice=_together(readings, best.accuracy))
    return readings[0], best


def _together(readings: Sequence[Reading], best: float) -> str:
    """The normalisations that do about as well as the best, which comes first."""
    close = [each for each in readings if each.advice.startswith(_TRY) and each.accuracy > best - TOLERANCE]
    close.sort(key=lambda reading: -reading.accuracy)
    return _TRY + " or ".join(each.advice.removeprefix(_TRY) for each in close[:_ADVICES])


class _Seen:
    """The teacher's answers on images that were changed first."""

    def __init__(
        self, network: nn.Module, sample: LabelledImages, change: Callable[[Tensor], Tensor]
    ) -> None:
        batches = sample.batches(_BATCH)
        self._said_B = torch.cat(
            [network(change(batch.images_BCHW)).logits_BC.argmax(1) for batch in batches]
        ).cpu()
        self._labels_B = sample.labels_B.cpu()

    @property
    def accuracy(self) -> float:
        return float((self._said_B == self._labels_B).double().mean())

    def in_order(self, class_names: Sequence[str]) -> Reading | None:
        """What it would be with the classes in another order, if there is one that explains the answers."""
        count = len(class_names)
        pairs_CC = torch.bincount(self._said_B * count + self._labels_B, minlength=count**2).view(
            count, count
        )
        meant_C = pairs_CC.argmax(1)
        used = pairs_CC.sum(1) > 0
        if len(set(meant_C[used].tolist())) < int(used.sum()):
            return None  # two of its classes would be one of ours: no order
        accuracy = int(pairs_CC.max(1).values.sum()) / len(self._labels_B)
        if accuracy < 0.5 or accuracy < self.accuracy + CLEARLY_BETTER:
            return None
        moved = next(index for index, label in enumerate(meant_C.tolist()) if used[index] and label != index)
        return Reading(
            accuracy=accuracy,
            advice=f"its classes are in another order: what it calls class {moved} are the images of class "
            f"{int(meant_C[moved])} ({class_names[int(meant_C[moved])]}); bring the data's into its order",
        )


def _sample(images: Images) -> LabelledImages:
    """Evenly spread images, normalised."""
    step = max(1, len(images) // _SAMPLE)
    wanted_B = torch.arange(0, len(images), step)[:_SAMPLE]
    parts, start = [], 0
    for batch in images.batches(_BATCH):
        here_B = wanted_B[(wanted_B >= start) & (wanted_B < start + len(batch))] - start
        here_B = here_B.to(batch.labels_B.device)
        parts.append(LabelledImages(batch.images_BCHW[here_B], batch.labels_B[here_B]))
        start += len(batch)
    return LabelledImages(
        torch.cat([part.images_BCHW for part in parts]), torch.cat([part.labels_B for part in parts])
    )


def _changes(spec: ImageSpec) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """Other ways to read images that were normalised as a spec says, each with what to do."""
    for name, (mean, std) in _normalisations(spec.channels).items():
        other = replace(spec, mean=mean, std=std)
        yield f"{_TRY}{name}", _renormalised(spec, other)
        if spec.channels == 3:
            channels = "its channels are blue, green, red: bring those of its first layer into our order"
            yield f"{channels}, and {_TRY}{name}", _reversed(_renormalised(spec, other))


def _normalisations(channels: int) -> Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    known = {
        name: (each.mean, each.std) for name, each in NORMALIZATIONS.items() if len(each.mean) == channels
    }
    plain = {
        f"{{mean: {[mean] * channels}, std: {[std] * channels}}}": ((mean,) * channels, (std,) * channels)
        for mean, std in ((0.0, round(1 / 255, 8)), (0.0, 1.0), (0.5, 0.5))
        if ((mean,) * channels, (std,) * channels) not in known.values()
    }
    return known | plain


def _renormalised(spec: ImageSpec, other: ImageSpec) -> Callable[[Tensor], Tensor]:
    def change(x_BCHW: Tensor) -> Tensor:
        mean_C11, std_C11, new_mean_C11, new_std_C11 = (
            torch.tensor(each, device=x_BCHW.device).view(-1, 1, 1)
            for each in (spec.mean, spec.std, other.mean, other.std)
        )
        return (x_BCHW * std_C11 + mean_C11 - new_mean_C11) / new_std_C11

    return change


def _reversed(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x_BCHW: change(x_BCHW).flip(1)
