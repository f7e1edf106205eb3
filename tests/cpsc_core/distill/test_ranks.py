"""Two ranks with half of each batch are one rank with the whole of it: the oracle is the trainer on one."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cpsc_core.distill.batch_norm import (
    SharedBatchNorm2d,
    WatchedNetwork,
    distance_from_memory,
    share_batch_norm,
)
from cpsc_core.distill.draws import LatentDraws, Latents, seeded
from cpsc_core.distill.trainer import Trainer
from cpsc_core.errors import DivergedError, RankError, SettingsError
from cpsc_core.images import ImageSpec
from cpsc_core.networks.wide_resnet import wrn16_1, wrn16_2
from cpsc_core.rank import ALONE, Rank
from cpsc_core.settings import GeneratorSettings, LossSettings, StudentSettings, TrainSettings
from tests.support.ranks import on_ranks

IMAGE = ImageSpec(num_classes=3, channels=1, size=16, mean=(0.5,), std=(0.5,))
SETTINGS = TrainSettings(
    preset="fixed",
    epochs=2,
    iterations_per_epoch=2,
    batch_size=6,
    generator=GeneratorSettings(latent_dim=5, width=4, steps=2),
    student=StudentSettings(steps=2, lr=0.05, contrastive=True),
)
LOG = dataclasses.replace(SETTINGS, loss=LossSettings(ikd_form="log_mse"))
STRONG = dataclasses.replace(
    SETTINGS, preset="strong", generator=dataclasses.replace(SETTINGS.generator, ema=0.5)
)


class Draws:
    """The trainer's own, in double precision and of unequal halves."""

    def __init__(self, settings: TrainSettings) -> None:
        self.own = LatentDraws.of(settings, IMAGE.num_classes)

    def __call__(self, purpose: str, epoch: int, step: int) -> Latents:
        latents_BZ, labels_B = self.own(purpose, epoch, step)
        return Latents(latents_BZ.double() + labels_B[:, None], labels_B.sort().values)


@pytest.fixture(autouse=True)
def one_thread_and_few_samples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("cpsc_core.distill.trainer.NUM_SAMPLES", 6)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(settings: TrainSettings, rank: Rank, **options: Any) -> Trainer:
    """A trainer in double precision, with an adapter between the two networks."""
    sizes = {"num_classes": 3, "channels": 1, "size": 16}
    with seeded(1, "networks"):
        teacher, student = wrn16_2(**sizes).double(), wrn16_1(**sizes).double()
    trainer = Trainer(
        settings,
        teacher=teacher,
        student=student,
        image=IMAGE,
        rank=rank,
        draws=Draws(settings),
        **options,
    )
    trainer.generator.double()
    trainer._trained_generator.double()
    trainer.adapter.double()
    return trainer


def terms_and_gradients(settings: TrainSettings) -> Callable[[Rank], dict[str, tuple[Tensor, Tensor]]]:
    """Every term of both players on the first batch, with its gradient by all that the player learns."""

    def act(rank: Rank) -> dict[str, tuple[Tensor, Tensor]]:
        trainer, found = build(settings, rank), {}
        for player, of in (("generator", trainer._generator_terms), ("student", trainer._student_terms)):
            learned = trainer._optimisers[player].param_groups[0]["params"]
            terms = of(*trainer.draws(player, 0, 0))
            for name, term in terms.items():
                gradients = torch.autograd.grad(
                    term, learned, retain_graph=True, allow_unused=True, materialize_grads=True
                )
                rank.average(gradients)
                found[name] = (term.detach(), torch.cat([each.flatten() for each in gradients]))
        return found

    return act


def train(settings: TrainSettings) -> Callable[[Rank], dict[str, Any]]:
    """Metrics of all epochs, and the state at the end."""

    def act(rank: Rank) -> dict[str, Any]:
        trainer = build(settings, rank)
        return {"metrics": [dict(report.metrics) for report in trainer.fit(blind)], **trainer.state_dict()}

    return act


def blind(student: nn.Module) -> Mapping[str, float]:
    return {}


def assert_close(one: Any, other: Any) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


# One rank with the whole batch


@pytest.mark.parametrize("settings", [SETTINGS, LOG, STRONG], ids=["mse", "log_mse", "strong"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_every_term_and_its_gradient_are_those_of_one_rank(settings: TrainSettings, world_size: int) -> None:
    expected = terms_and_gradients(settings)(ALONE)

    for found in on_ranks(world_size, terms_and_gradients(settings)):
        assert found.keys() == expected.keys()
        for name, (value, gradient) in expected.items():
            assert gradient.abs().max() > 1e-6, name
            assert_close(found[name], (value, gradient))


@pytest.mark.parametrize(
    "settings",
    [LOG, dataclasses.replace(LOG, preset="faithful"), STRONG],
    ids=["tested", "faithful", "strong"],
)
def test_losses_and_weights_stay_those_of_one_rank(settings: TrainSettings) -> None:
    expected = train(settings)(ALONE)

    first, second = on_ranks(2, train(settings))

    assert_close(first["metrics"], expected["metrics"])
    average = {"generator_average"} & expected.keys()
    for part in ("generator", "student", "adapter", "student_optimiser", *average):
        # Adam follows even the rounding of a gradient that is zero, as that of a bias before batch norm is
        torch.testing.assert_close(first[part], expected[part], rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(first[part], second[part], rtol=0, atol=0)


def test_recomputing_ranks_exchange_the_same_and_keep_every_bit() -> None:
    usual, frugal = (on_ranks(2, train(dataclasses.replace(SETTINGS, recompute=on))) for on in (False, True))

    torch.testing.assert_close(frugal, usual, rtol=0, atol=0)


@pytest.mark.slow
def test_ranks_with_a_compiled_teacher_have_the_losses_of_plain_ones() -> None:
    settings = dataclasses.replace(SETTINGS, epochs=1)
    compiled = dataclasses.replace(settings, compile=True)

    (expected, _), (found, _) = on_ranks(2, train(settings)), on_ranks(2, train(compiled))

    assert found["metrics"] == [pytest.approx(each, rel=1e-9) for each in expected["metrics"]]


def test_a_loss_of_one_ranks_own_part_would_be_noticed() -> None:
    """Both oracles above would fail if ranks averaged the losses of their parts, as data parallelism does."""
    whole = build(SETTINGS, ALONE)
    latents = whole.draws("generator", 0, 0)
    expected = whole._generator_terms(*latents)
    halves = [
        whole._generator_terms(latents.latents_BZ[part], latents.labels_B[part])
        for part in (slice(3), slice(3, 6))
    ]

    for name in expected:
        mean = (halves[0][name] + halves[1][name]) / 2
        assert abs(mean - expected[name]) > 1e-3, name


# Batch norm


def test_shared_batch_norm_is_torchs_over_the_whole_batch_in_value_gradient_and_memory() -> None:
    chance = torch.Generator().manual_seed(0)
    x_BCHW = 3 + torch.randn(6, 2, 4, 4, generator=chance, dtype=torch.float64)
    slopes_BCHW = torch.randn(6, 2, 4, 4, generator=chance, dtype=torch.float64)
    layer = nn.BatchNorm2d(2, momentum=None, dtype=torch.float64)
    nn.init.normal_(layer.weight, generator=chance)
    nn.init.normal_(layer.bias, generator=chance)

    def act(rank: Rank) -> tuple[Tensor, ...]:
        network = nn.Sequential(layer)
        share_batch_norm(network, rank)
        own_BCHW = rank.part(x_BCHW).clone().requires_grad_()
        y_BCHW = network(own_BCHW)
        gradients = list(
            torch.autograd.grad(y_BCHW, [own_BCHW, layer.weight, layer.bias], rank.part(slopes_BCHW))
        )
        for gradient in gradients[1:]:
            rank.sum(gradient)
        return (y_BCHW.detach(), *gradients, *(each.clone() for each in network.buffers()))

    for parts in (on_ranks(2, act), on_ranks(3, act)):
        expected = act(ALONE)
        layer.reset_running_stats()
        assert_close(torch.cat([each[0] for each in parts]), expected[0])
        assert_close(torch.cat([each[1] for each in parts]), expected[1])
        for each in parts:
            assert_close(each[2:], expected[2:])


def test_small_deviations_far_from_zero_are_not_lost_in_single_precision() -> None:
    x_BCHW = 1000 + torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))

    def act(rank: Rank) -> Tensor:
        network = nn.Sequential(nn.BatchNorm2d(1, momentum=1.0))
        share_batch_norm(network, rank)
        network(rank.part(x_BCHW))
        return network[0].running_var

    exact = x_BCHW.double().var()
    for found in on_ranks(2, act):
        assert found.item() == pytest.approx(exact.item(), rel=1e-4)


def test_layers_that_see_the_whole_batch_in_another_way_are_refused() -> None:
    pair = Rank(world_size=2)

    for layer in (nn.BatchNorm1d(3), nn.BatchNorm2d(3, track_running_stats=False)):
        with pytest.raises(
            SettingsError, match=r"has a BatchNorm.d layer, which 2 ranks cannot share.*; use one rank"
        ):
            share_batch_norm(nn.Sequential(nn.Sequential(layer)), pair)


def test_sharing_keeps_parameters_names_and_mode_and_does_nothing_alone() -> None:
    network = wrn16_1(num_classes=3, channels=1, size=16).eval()
    parameters, names = list(network.parameters()), list(network.state_dict())

    share_batch_norm(network, ALONE)
    assert not any(isinstance(layer, SharedBatchNorm2d) for layer in network.modules())
    share_batch_norm(network, Rank(world_size=2))

    assert all(one is other for one, other in zip(network.parameters(), parameters, strict=True))
    assert list(network.state_dict()) == names
    assert not any(layer.training for layer in network.modules())
    assert sum(isinstance(layer, SharedBatchNorm2d) for layer in network.modules()) == 13


def test_the_statistics_of_all_layers_cost_one_exchange() -> None:
    def act(rank: Rank) -> int:
        teacher, gather, calls = wrn16_1(num_classes=3, channels=1, size=16).eval(), Rank.gather, []
        Rank.gather = lambda self, own: (calls.append(own), gather(self, own))[1]  # type: ignore[method-assign]
        _, seen = WatchedNetwork(teacher)(torch.ones(2, 1, 16, 16))
        distance_from_memory(seen, rank)
        return len(calls)

    assert on_ranks(2, act) == [1, 1]


# Stopping, resuming, failing


def stop_after(iterations: int) -> Callable[[], bool]:
    left = iter([False] * iterations)
    return lambda: next(left, True)


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(world_size: int) -> None:
    one_each = dataclasses.replace(
        SETTINGS,
        generator=GeneratorSettings(latent_dim=5, width=4, steps=1),
        student=StudentSettings(steps=1),
    )

    def resumed(rank: Rank) -> dict[str, Any]:
        reports: list[Any] = []
        state = None
        for stop in (1, 2, 99):
            trainer = build(one_each, rank, should_stop=stop_after(stop))
            if state is not None:
                trainer.load_state_dict(state)
            reports += [dict(report.metrics) for report in trainer.fit(blind)]
            state = trainer.state_dict()
        return {"metrics": reports, **state}

    whole = on_ranks(world_size, train(one_each))
    torch.testing.assert_close(on_ranks(world_size, resumed), whole, rtol=0, atol=0)


def test_all_ranks_stop_in_the_iteration_in_which_one_is_asked_to() -> None:
    def act(rank: Rank) -> tuple[int, int]:
        trainer = build(SETTINGS, rank, should_stop=stop_after(3 if rank.index == 1 else 99))
        list(trainer.fit(blind))
        return trainer.epoch, trainer.iteration

    assert on_ranks(2, act) == [(1, 1), (1, 1)]


def test_a_divergence_ends_every_rank_with_the_same_words() -> None:
    settings = dataclasses.replace(SETTINGS, student=StudentSettings(steps=2, lr=1e200))

    def act(rank: Rank) -> str:
        with pytest.raises(DivergedError) as caught:
            list(build(settings, rank).fit(blind))
        return str(caught.value)

    first, second = on_ranks(2, act)
    assert first == second


def test_all_ranks_start_from_the_weights_of_the_first() -> None:
    def act(rank: Rank) -> float:
        settings = dataclasses.replace(SETTINGS, seed=rank.index)
        return build(settings, rank).generator.linear.weight.sum().item()

    assert len(set(on_ranks(2, act))) == 1


@pytest.mark.parametrize(
    ("batch", "ranks", "choices"), [(7, 2, "6 or 8"), (2, 3, "3"), (512, 3, "510 or 513")]
)
def test_a_batch_that_the_ranks_cannot_share_is_refused(batch: int, ranks: int, choices: str) -> None:
    settings = dataclasses.replace(SETTINGS, batch_size=batch)

    with pytest.raises(
        SettingsError,
        match=f"batch_size is {batch}, which {ranks} ranks cannot share evenly; choose {choices}, or another",
    ):
        build(settings, Rank(world_size=ranks))


def test_a_rank_that_dies_in_the_middle_ends_the_others_at_once() -> None:
    def act(rank: Rank) -> str:
        def fail() -> None:
            if rank.index == 1:
                raise SystemExit

        try:
            list(build(SETTINGS, rank, on_step=fail).fit(blind))
        except SystemExit:
            return "died"
        except RankError as error:
            return str(error)
        return "finished"

    words, died = on_ranks(2, act)
    assert died == "died"
    assert words.startswith("rank 0 of 2 lost the others: one has died or does not answer (")
