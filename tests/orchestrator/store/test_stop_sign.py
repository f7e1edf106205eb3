from pathlib import Path

from orchestrator.store.address import BucketAddress
from orchestrator.store.bucket import Bucket
from orchestrator.store.stop_sign import StopSign


def test_a_sign_in_a_folder_is_seen_at_once(tmp_path: Path) -> None:
    sign = StopSign(str(tmp_path / "stop"))
    assert not sign.is_up()

    (tmp_path / "stop").touch()

    assert sign.is_up()


def test_a_sign_in_a_bucket_is_seen(remote: BucketAddress) -> None:
    assert not StopSign(str(remote / "stop")).is_up()

    Bucket(remote).write("stop", b"")

    assert StopSign(str(remote / "stop")).is_up()


def test_a_store_that_does_not_answer_asks_nobody_to_stop(remote: BucketAddress) -> None:
    assert not StopSign("s3://runs/stop?endpoint_override=http://127.0.0.1:9").is_up()
