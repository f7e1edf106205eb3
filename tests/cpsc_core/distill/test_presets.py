import ast
import subprocess
import sys
from pathlib import Path

import pytest

from cpsc_core.distill import presets
from cpsc_core.distill.presets import PRESETS, preset_named
from cpsc_core.errors import UnknownNameError


def test_the_fixed_preset_keeps_the_moments_and_takes_the_softmax_once() -> None:
    faithful, fixed = PRESETS["faithful"], PRESETS["fixed"]

    assert set(PRESETS) == {"faithful", "fixed", "strong"}
    assert faithful.generator_optimiser == "fresh" and fixed.generator_optimiser == "persistent"
    assert faithful.pseudo_label_on == "probabilities" and fixed.pseudo_label_on == "logits"


def test_only_the_strong_preset_goes_beyond_the_paper() -> None:
    for name, preset in PRESETS.items():
        beyond = (
            preset.label_input,
            preset.adversary,
            preset.batch_norm_distance,
            preset.student_pseudo_label,
        )
        assert (beyond == (False, "unbounded", "absolute", True)) == (name != "strong")


def test_a_miss_lists_the_table_and_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="'fix'; there are faithful, fixed, strong; nearest: fixed"):
        preset_named("fix")


def test_every_switch_has_a_sentence() -> None:
    tree = ast.parse(Path(presets.__file__).read_text())
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Preset")

    for field, sentence in zip(body[1::2], body[2::2], strict=True):
        assert isinstance(field, ast.AnnAssign)
        assert isinstance(sentence, ast.Expr) and isinstance(sentence.value, ast.Constant)


def test_reading_presets_needs_no_torch() -> None:
    program = "import sys, cpsc_core.distill.presets; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
