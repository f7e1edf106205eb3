from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config import Experiment, parse_experiment
from orchestrator.errors import ConfigError

Load = Callable[..., Experiment]
Refusal = Callable[..., list[str]]

CANARY = "CANARY-7f3a"


def test_a_reference_stands_for_the_variable_within_a_text(load: Load, valid: str) -> None:
    text = f'{valid}tracking: {{uri: "https://${{env:HOST}}/x?${{env:KEY}}"}}\n'

    config = load(text, environment={"KEY": CANARY, "HOST": "h"}).config

    assert config.tracking.uri == f"https://h/x?{CANARY}"


@pytest.mark.parametrize(
    "address", ["https://me:${env:X}@h", "https://${env:X}@h", "postgresql://me:${env:X}@h/d"]
)
def test_an_address_may_not_hold_credentials_wherever_they_come_from(
    load: Load, valid: str, address: str
) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.uri: must not hold credentials"):
        load(f'{valid}tracking: {{uri: "{address}"}}\n', environment={"X": CANARY})


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_reference_alone_is_read_as_if_its_value_stood_there(load: Load, valid: str, quote: str) -> None:
    text = valid.replace("{trials: 10}", "").rstrip() + f"\n  trials: {quote}${{env:TRIALS}}{quote}\n"

    assert load(text, environment={"TRIALS": "7"}).config.budget.trials == 7


def test_the_text_keeps_references_and_no_value(load: Load, valid: str) -> None:
    environment = {"PASSWORD": f"https://{CANARY}.example", "FOLDER": "/f"}
    text = f"{valid}tracking:\n  uri: ${{env:PASSWORD}}\nstorage: ${{env:FOLDER}}/x\n"

    experiment = load(text, environment=environment)

    assert CANARY not in experiment.text + repr(experiment) + str(experiment.config)
    assert parse_experiment(experiment.text, environment=environment).config == experiment.config


def test_a_relative_path_behind_a_reference_stays_one(load: Load, valid: str, tmp_path: Path) -> None:
    experiment = load(f"{valid}storage: ${{env:SUB}}/x\n", environment={"SUB": "a"})

    assert experiment.config.storage == tmp_path / "a" / "x"
    assert f"storage: {tmp_path}/${{env:SUB}}/x" in experiment.text


@pytest.mark.parametrize(
    ("given", "environment", "said"),
    [
        ("${env:URI}", {}, "the environment variable URI is not set"),
        ("http://${env:URI}", {"URI": ""}, "the environment variable URI is empty"),
        ("${env:URI}", {"URI": "a\nb"}, "the environment variable URI holds a control character"),
        ("${env:URI}", {"URI": "a\udcff"}, "the environment variable URI holds a control character"),
        ("${URI}", {}, "a reference to the environment is written ${env:NAME}"),
        ("${env:}", {}, "a reference to the environment is written ${env:NAME}"),
        ("${env:A-B}", {}, "a reference to the environment is written ${env:NAME}"),
        ("${env:A", {"A": "1"}, "a reference to the environment is written ${env:NAME}"),
        ("${env:A}${", {"A": "1"}, "a reference to the environment is written ${env:NAME}"),
        ("${env:URI}", {"URI": "5"}, "must be text, but is what ${env:URI} stands for"),
        ("${env:URI}", {"URI": "a" * 5000}, "stands for more than 4,096 characters, which no value needs"),
        (
            "${env:URI}" * 3,
            {"URI": "a" * 2000},
            "stands for more than 4,096 characters, which no value needs",
        ),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(
    refusal: Refusal, valid: str, given: str, environment: dict[str, str], said: str
) -> None:
    lines = refusal(f"{valid}tracking:\n  uri: {given}\n", environment=environment)

    assert lines == [f"x.yaml:14: tracking.uri: {said}"]


@pytest.mark.parametrize(
    "override", ["name=a-${env:A}", "train.epochs=${env:A}", "search.loss.ikd.high=${env:A}",
     "sampler.seed=${env:A}"]
)  # fmt: skip
def test_what_decides_a_trial_cannot_hang_on_the_environment(refusal: Refusal, override: str) -> None:
    [line] = refusal(overrides=[override], environment={"A": "9"})

    place = f"--set {override.partition('=')[0]}"
    assert line == (
        f"{place}: cannot depend on the environment, or a resumed sweep could mean "
        "another experiment; write the value here or give it with --set (references are for budget, confirm, "
        "data.root, hang, notify, optuna_storage, resources, retry, storage, teacher.checkpoint, tracking)"
    )


def test_a_wrong_value_behind_a_reference_is_never_shown(refusal: Refusal, valid: str) -> None:
    environment = {"PASSWORD": CANARY}
    text = f"{valid}hang:\n  seconds: ${{env:PASSWORD}}\nconfirm:\n  top: x${{env:PASSWORD}}\n"

    lines = refusal(text, environment=environment)

    assert lines == [
        "x.yaml:14: hang.seconds: must be a number, but is what ${env:PASSWORD} stands for",
        "x.yaml:16: confirm.top: must be a whole number, but is what x${env:PASSWORD} stands for",
    ]


@pytest.mark.parametrize(
    "key", ["password", "TOKEN", "api_key", "api-key", "aws_secret", "credentials", "my_passwd"]
)
def test_a_key_that_asks_for_a_secret_is_refused(refusal: Refusal, valid: str, key: str) -> None:
    lines = refusal(f"{valid}tracking: {{{key}: {CANARY}}}\n")

    assert lines == [
        f"x.yaml:13: tracking.{key}: secrets do not belong here; MLflow reads MLFLOW_TRACKING_PASSWORD "
        "from the environment"
    ]


@pytest.mark.parametrize(
    "uri",
    [
        f"https://me:{CANARY}@host",
        f"postgresql://:{CANARY}@host/db",
        f"https://host/?api_key={CANARY}",
        f"https://host/x?a=b&access_token={CANARY}",
        f"https://${{env:USER}}:{CANARY}@host",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(refusal: Refusal, valid: str, uri: str) -> None:
    lines = refusal(f'{valid}tracking: {{uri: "{uri}"}}\n', environment={"USER": "me"})

    assert lines == [
        "x.yaml:13: tracking.uri: holds a password or token in plain text; write ${env:NAME} in its place"
    ]


@pytest.mark.parametrize("repeated", ["://", "://a", "?", "&a", "?token", "a:", "@", "=", "://:", "?=&"])
def test_no_address_takes_long_to_look_through(refusal: Refusal, valid: str, repeated: str) -> None:
    address = repeated * (4096 // len(repeated))
    text = f"{valid}start_from: [{', '.join([json.dumps(address)] * 60)}]\n"
    began = time.process_time()

    refusal(f"{text}x: 1\n")

    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "uri", ["https://host:5000/x", "sqlite:////a/b.db", "postgresql://me@host/db", "mysql+pymysql://host/db"]
)
def test_an_address_without_a_secret_is_accepted(load: Load, valid: str, uri: str) -> None:
    assert load(f"{valid}tracking: {{uri: '{uri}'}}\n").config.tracking.uri == uri


def test_no_secret_reaches_a_trace(load: Load, valid: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            f"{valid}tracking: {{uri: 'https://me:{CANARY}@h', password: {CANARY}}}\nstorage: ${{env:P}}\n",
            environment={"P": f"s3://k:{CANARY}@b"},
        )

    assert CANARY not in "".join(traceback.format_exception(caught.value))
