from dataclasses import replace
from typing import Any

import pytest

from cpsc_core.data.image_folder import IMAGEFOLDER
from cpsc_core.data.parquet import PARQUET
from cpsc_core.errors import SettingsError
from cpsc_core.settings import DataSettings

WHOLE = DataSettings(name="parquet", size=32, classes=("cat", "dog"), mean=(0.5,), std=(0.25,))


def test_what_it_is_follows_from_the_settings_alone() -> None:
    data_set = PARQUET.adapted(WHOLE)

    spec = data_set.spec
    assert (spec.num_classes, spec.channels, spec.size, spec.mean, spec.std) == (2, 1, 32, (0.5,), (0.25,))
    assert data_set.class_names == ("cat", "dog")
    assert data_set.flips
    assert PARQUET.adapted(replace(WHOLE, classes=3)).class_names == ("0", "1", "2")
    assert not PARQUET.adapted(replace(WHOLE, flips=False)).flips


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"size": None}, r"data\.size is needed for parquet"),
        ({"classes": None}, r"data\.classes is needed for parquet: how many classes there are"),
        ({"mean": None}, r"data\.normalization is needed for parquet"),
        ({"classes": 1}, r"data\.classes must be from 2 to 100,000, but is 1"),
        ({"classes": ("a",)}, r"data\.classes must have two names or more, each once"),
        ({"size": 5000}, r"data\.size must be from 1 to 1,024, but is 5000"),
    ],
)
def test_what_is_missing_or_cannot_be_is_told(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        PARQUET.adapted(replace(WHOLE, **change))


def test_a_setting_without_a_meaning_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"data\.image means nothing for imagefolder; leave it out"):
        IMAGEFOLDER.adapted(replace(WHOLE, name="imagefolder", image="img"))
