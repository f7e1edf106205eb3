import pytest
import torch

from cpsc_core.distill.draws import LatentDraws, seeded


def draws(seed: int = 3, *, batch_size: int = 6, num_classes: int = 4) -> LatentDraws:
    return LatentDraws(seed=seed, batch_size=batch_size, latent_dim=5, num_classes=num_classes)


def test_a_batch_is_the_same_whenever_it_is_asked_for() -> None:
    first = draws()("student", 2, 7)
    draws()("generator", 0, 0)

    again = draws()("student", 2, 7)

    assert torch.equal(first.latents_BZ, again.latents_BZ)
    assert torch.equal(first.labels_B, again.labels_B)


@pytest.mark.parametrize("address", [("generator", 2, 7), ("student", 3, 7), ("student", 2, 8)])
def test_another_address_has_another_batch(address: tuple[str, int, int]) -> None:
    assert not torch.equal(draws()(*address).latents_BZ, draws()("student", 2, 7).latents_BZ)


def test_draws_neither_read_nor_move_the_global_streams() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()

    batch = draws()("student", 0, 0)

    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(draws()("student", 0, 0).latents_BZ, batch.latents_BZ)


def test_latents_are_normal_and_labels_uniform() -> None:
    latents_BZ, labels_B = draws(batch_size=20_000)("generator", 0, 0)

    assert latents_BZ.shape == (20_000, 5)
    assert latents_BZ.mean().item() == pytest.approx(0, abs=0.02)
    assert latents_BZ.std().item() == pytest.approx(1, abs=0.02)
    assert (labels_B.bincount(minlength=4) / 20_000 - 0.25).abs().max() < 0.02


@pytest.mark.parametrize("num_classes", [3, 10, 256, 300])
def test_class_ordered_latents_show_every_class_equally_often(num_classes: int) -> None:
    latents_BZ, labels_B = draws(num_classes=num_classes).ordered_by_class(256)

    counts = labels_B.bincount(minlength=num_classes)
    assert latents_BZ.shape == (256, 5)
    assert labels_B.tolist() == sorted(labels_B.tolist())
    assert counts.max() - counts.min() <= 1


def test_inside_seeded_weights_depend_on_the_seed_alone_and_the_global_stream_goes_on() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    with seeded(1, "student"):
        first = torch.rand(3)
    undisturbed = torch.rand(3)
    with seeded(1, "student"):
        again = torch.rand(3)
    with seeded(2, "student"):
        other = torch.rand(3)

    assert torch.equal(undisturbed, expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
