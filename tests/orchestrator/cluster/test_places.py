from pathlib import Path

import pytest

from orchestrator.cluster.capacity import Fixed
from orchestrator.cluster.places import Spacious
from orchestrator.store.paths import SweepPaths
from orchestrator.store.space import Space


@pytest.mark.parametrize(("free", "slots"), [(1024, 0), (1024**3, 4)])
def test_no_trial_begins_while_the_storage_is_full(tmp_path: Path, free: int, slots: int) -> None:
    space = Space(SweepPaths(tmp_path / "toy"), lambda _line: None, lambda: False, lambda _folder: free)

    places = Spacious(Fixed(4), space)

    assert places.room().slots == slots
    assert places.has_living(())
