"""What is written down holds no secret."""

from __future__ import annotations

import io
import logging
import time

import pytest

from cpsc_core.redaction import RedactingFormatter, redact

CANARY = "CANARY-7f3a"


@pytest.mark.parametrize(
    "name",
    [
        "MLFLOW_TRACKING_PASSWORD",
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "wandb_api_key",
        "OPENAI_APIKEY",
        "CREDENTIALS",
    ],
)
def test_what_a_variable_holds_that_is_called_like_a_secret_is_hidden(name: str) -> None:
    assert redact(f"refused {CANARY}, again", {name: CANARY}) == "refused ***, again"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAY_AUTH_TOKEN_PATH", "/run/token"),
        ("PASSWORD_FILE", "/run/password"),
        ("TOKEN", "on"),
        ("HOME", "/root"),
    ],
)
def test_where_a_secret_lies_is_none_and_neither_is_a_short_word(name: str, value: str) -> None:
    assert redact(f"reads {value}", {name: value}) == f"reads {value}"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"at https://me:{CANARY}@host/x?y=1: no", "at https://***@host/x?y=1: no"),
        (f"at postgresql+psycopg2://{CANARY}@db", "at postgresql+psycopg2://***@db"),
        (f"GET /x?api_key={CANARY}&y=1", "GET /x?api_key=***&y=1"),
        (f"'https://host/?a=b&access_token={CANARY}'", "'https://host/?a=b&access_token=***'"),
    ],
)
def test_secrets_in_addresses_are_hidden(text: str, hidden: str) -> None:
    assert redact(text, {}) == hidden


def test_of_secrets_that_hold_each_other_nothing_is_left() -> None:
    assert redact(f"{CANARY}-longer", {"A_TOKEN": CANARY, "B_TOKEN": f"{CANARY}-longer"}) == "***"


def test_an_ordinary_text_stays_as_it_is() -> None:
    text = "epoch 3: loss 0.5 at /runs/a?b (tokens=3) user@host see https://docs.example/a?b=c"

    assert redact(text, {"TOKEN": ""}) == text


@pytest.mark.parametrize("repeated", ["://", "://a", "?", "&a", "?token", "=", "?=&"])
def test_no_text_takes_long(repeated: str) -> None:
    began = time.process_time()

    redact(repeated * (200_000 // len(repeated)), {})

    assert time.process_time() - began < 2.0


def test_records_and_their_traces_are_logged_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", CANARY)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    logger = logging.Logger("x")
    logger.addHandler(handler)

    try:
        raise ValueError(f"no {CANARY} at http://me:{CANARY}@host")
    except ValueError:
        logger.exception("failed with %s", CANARY)

    assert stream.getvalue().startswith("failed with ***\n")
    assert "ValueError: no *** at http://***@host" in stream.getvalue()
    assert CANARY not in stream.getvalue()
