from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.store.address import BucketAddress, storage_at


def test_an_address_is_written_as_it_was_read_but_for_needless_slashes() -> None:
    text = "s3://runs/team/a?endpoint_override=http://127.0.0.1:9000&region=eu-west-1"

    assert str(BucketAddress.parse(text)) == text
    assert str(BucketAddress.parse("gs://runs//team/")) == "gs://runs/team"


def test_a_place_below_an_address_keeps_where_the_store_is() -> None:
    address = BucketAddress.parse("s3://runs/team?region=eu-west-1")

    below = address / "digits/trials"

    assert str(below) == "s3://runs/team/digits/trials?region=eu-west-1"
    assert (below.name, below.parent.parent) == ("trials", address)


@pytest.mark.parametrize("text", ["s3://key:hunter2@runs/a", "s3://hunter2@runs/a"])
def test_credentials_in_an_address_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match="set AWS_ACCESS_KEY_ID") as refusal:
        BucketAddress.parse(text)

    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    ["s3://runs?secret_key=hunter2", "s3:///a", "s3://runs/../b", "s3://runs/a#b", "ftp://runs/a", "s3:/a"],
)
def test_what_cannot_be_an_address_of_storage_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="must be ") as refusal:
        BucketAddress.parse(text)

    assert "hunter2" not in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["s3://[::1/runs", "", "s3:/runs/a", "~nobody-of-this-name/runs"])
def test_what_is_no_place_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        storage_at(text)

    assert len(str(refusal.value).splitlines()) == 1


def test_a_path_is_a_folder_and_an_address_a_bucket() -> None:
    assert storage_at("~/runs") == Path("~/runs").expanduser()
    assert storage_at("gs://runs/a") == BucketAddress.parse("gs://runs/a")
