"""Which quirks of the released CPSC-DFKD code are kept, and what goes beyond it: one table."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cpsc_core.errors import UnknownNameError

__all__ = ["PRESETS", "Preset", "preset_named"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How the released code, the paper's intention and what does better differ."""

    generator_optimiser: Literal["fresh", "persistent"]
    """fresh: Adam forgets its moments after each step and so follows the sign; persistent: it keeps them."""
    pseudo_label_on: Literal["probabilities", "logits"]
    """What the cross-entropy with the drawn labels is given; on probabilities softmax is applied twice."""
    student_schedule: Literal["released", "cosine"]
    """released: the doubly stepped schedule of the released code; cosine: warm-up, then a cosine to zero."""
    student_pseudo_label: bool
    """Whether the student also learns the drawn labels, or only what the teacher says."""
    label_input: bool
    """Whether the generator is given the label next to the noise too, or by its norm layers only."""
    adversary: Literal["unbounded", "bounded"]
    """What the generator climbs. unbounded: KL and the distance of `ikd_form`; bounded: the Jensen-Shannon
    divergence in their place, with the weight `ikd`."""
    batch_norm_distance: Literal["absolute", "relative"]
    """absolute: the norms of the differences, which wide layers with large values dominate; relative: those
    in shares of what each layer remembers."""


PRESETS: Mapping[str, Preset] = {
    "faithful": Preset(
        generator_optimiser="fresh",
        pseudo_label_on="probabilities",
        student_schedule="released",
        student_pseudo_label=True,
        label_input=False,
        adversary="unbounded",
        batch_norm_distance="absolute",
    ),
    "fixed": Preset(
        generator_optimiser="persistent",
        pseudo_label_on="logits",
        student_schedule="cosine",
        student_pseudo_label=True,
        label_input=False,
        adversary="unbounded",
        batch_norm_distance="absolute",
    ),
    # Images of the class that was asked for, and a student hardly worse: experiments/benchmarks/presets.py.
    # No term can outgrow the others, so their weights mean something.
    "strong": Preset(
        generator_optimiser="persistent",
        pseudo_label_on="logits",
        student_schedule="cosine",
        student_pseudo_label=False,
        label_input=True,
        adversary="bounded",
        batch_norm_distance="relative",
    ),
}


def preset_named(name: str) -> Preset:
    """The switches of a preset; UnknownNameError lists the table."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.0)
        raise UnknownNameError(
            f"no preset is called {name!r}; there are {', '.join(sorted(PRESETS))}; nearest: {near[0]}"
        )
    return PRESETS[name]
