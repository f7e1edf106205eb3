import pytest

from cpsc_core.data.normalization import NORMALIZATIONS, Normalization, normalization
from cpsc_core.errors import SettingsError


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_normalisation_is_found_by_name(name: str) -> None:
    assert normalization(name) is NORMALIZATIONS[name]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"one of cifar10, .* but is 'imgnet'; nearest: imagenet"):
        normalization("imgnet")


@pytest.mark.parametrize(
    ("mean", "std", "complaint"),
    [
        ((0.5,), (0.5, 0.5), "as many means as deviations, .* but these are 1 and 2"),
        ((0.5, 0.5), (0.5, 0.5), "1 for grey images or 3 for colour, but these are 2 and 2"),
        ((0.5,), (0.0,), "divides by 0"),
    ],
)
def test_statistics_that_cannot_be_are_refused(mean: tuple[float], std: tuple[float], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        Normalization(mean, std)
