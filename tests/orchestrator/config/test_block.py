from __future__ import annotations

import pytest
from pydantic import ValidationError

from orchestrator.config.block import Block


class Example(Block):
    count: int = 1
    """A number."""


def test_a_block_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Example().count = 2  # type: ignore[misc]


@pytest.mark.parametrize("given", [{"cuont": 1}, {"count": "1"}, {"count": 1.0}, {"count": True}])
def test_a_block_refuses_unknown_keys_and_converts_nothing(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Example.model_validate(given)


def test_the_sentence_under_a_field_is_its_description() -> None:
    assert Example.model_fields["count"].description == "A number."
