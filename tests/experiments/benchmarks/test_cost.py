import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cpsc_core.data.digits import DIGITS
from cpsc_core.weights import build_network
from orchestrator.config import load_experiment

EXPERIMENTS = Path(__file__).parents[3] / "experiments"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cost", EXPERIMENTS / "benchmarks" / "cost.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cost"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_pass_costs_two_operations_for_each_weight_and_place(script: ModuleType) -> None:
    network = build_network("resnet8", DIGITS.spec)
    by_hand = 2 * 16 * 16 * 16 * 9 * (1 + 16 + 16)  # the stem and the first stage, at 16 x 16 pixels
    by_hand += 2 * 8 * 8 * 32 * 9 * (16 + 32) + 2 * 4 * 4 * 64 * 9 * (32 + 64) + 2 * 64 * 10

    assert script.forward(network, DIGITS.spec) == by_hand


def test_work_grows_with_epochs_batch_and_steps(script: ModuleType) -> None:
    def work(*overrides: str) -> float:
        return float(script.per_trial(load_experiment(EXPERIMENTS / "digits.yaml", overrides).config))

    once = work()

    assert work("train.epochs=20") == pytest.approx(2 * once)
    assert work("train.batch_size=192") == pytest.approx(3 * once)
    more = work("train.generator.steps=7") - once
    assert work("train.generator.steps=8") - once == pytest.approx(2 * more)


def test_pruning_leaves_a_share_of_the_trials_at_each_rung(script: ModuleType) -> None:
    overrides = (
        "train.epochs=12",
        "pruner={name: successive_halving, min_epochs: 2, reduction_factor: 2}",
        "budget={trials: 8}",
        "confirm={top: 2, seeds: 3}",
    )
    config = load_experiment(EXPERIMENTS / "digits.yaml", overrides).config

    # 8 trials of 2 epochs, 4 go on to epoch 4, 2 to epoch 8 and 1 to the end
    assert script.full_trials(config) == (8 * 2 + 4 * 2 + 2 * 4 + 1 * 4) / 12 + 6
