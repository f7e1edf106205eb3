"""The hook that is told how a sweep ended."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UnreachableError
from orchestrator.store.records import TrialState
from orchestrator.sweep.notify import Notifier, message
from tests.support.folders import MadeSweep

SECRET = "T000-B000-hunter2"


class Hook:
    """A server that notes what it is told, and answers as it is asked to."""

    def __init__(self) -> None:
        hook = self
        self.answers = [200]
        self.told: list[Any] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                status = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
                self.send_response(status)
                self.send_header("Location", f"http://127.0.0.1:{hook.server.server_port}/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{SECRET}"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    sweep = MadeSweep(tmp_path, manifest={"reason": "all 2 trials are done"})
    sweep.trial(0, [0.5], params={"loss.ikd": 1.0})
    return sweep


def test_it_is_told_in_one_line_and_in_figures(sweep: MadeSweep, hook: Hook) -> None:
    Notifier(hook.url, sweep.paths).tell()

    (told,) = hook.told
    assert told["event"] == "finished"
    assert told["text"] == "digits: finished (all 2 trials are done); best 0.5000 by trial 0"
    assert told["counts"]["complete"] == 1
    assert told["best"]["params"] == {"loss.ikd": 1.0}


@pytest.mark.parametrize(
    ("manifest", "event"),
    [
        ({"reason": "budget spent: 2.00 of 2.00 trial hours"}, "budget_spent"),
        ({"finished": "stopped"}, "stopped"),
        ({"finished": "interrupted"}, "interrupted"),
        ({"finished": None}, "failed"),
    ],
)
def test_every_end_has_a_name(sweep: MadeSweep, manifest: dict[str, Any], event: str) -> None:
    sweep.note(**manifest)

    assert message(sweep.folder)["event"] == event


def test_a_sweep_that_completed_no_trial_has_failed(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.1], state=TrialState.FAILED, cause="error")

    assert message(sweep.folder)["event"] == "failed"
    assert message(sweep.folder)["best"] is None


def test_a_server_in_trouble_is_asked_again(sweep: MadeSweep, hook: Hook) -> None:
    hook.answers = [503, 503, 200]

    Notifier(hook.url, sweep.paths).tell()

    assert len(hook.told) == 3


@pytest.mark.parametrize("answer", [403, 302])
def test_a_refusal_or_another_address_ends_it_and_no_secret_is_logged(
    sweep: MadeSweep, hook: Hook, answer: int, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [answer]

    Notifier(hook.url, sweep.paths).tell()

    assert len(hook.told) == 1
    assert "the hook at 127.0.0.1 was not told: HTTPError" in caplog.text
    assert SECRET not in caplog.text


def test_nobody_at_the_address_is_no_failure_of_the_sweep(
    sweep: MadeSweep, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier(f"http://127.0.0.1:1/{SECRET}", sweep.paths).tell()

    assert "was not told" in caplog.text
    assert SECRET not in caplog.text


def test_nobody_is_told_where_no_address_is_given(sweep: MadeSweep) -> None:
    Notifier(None, sweep.paths).tell()


def test_the_address_is_in_no_dump_of_the_configuration() -> None:
    from orchestrator.config import parse_experiment
    from tests.support.command import EXPERIMENT

    text = EXPERIMENT + "notify: {url: '${env:HOOK}'}\n"
    experiment = parse_experiment(text, environment={"HOOK": f"https://hooks.example/{SECRET}"})

    assert experiment.config.notify.url == f"https://hooks.example/{SECRET}"
    assert SECRET not in repr(experiment.config)
    assert SECRET not in experiment.config.model_dump_json()
    assert SECRET not in experiment.text


def test_the_hook_is_told_although_nobody_can_say_whose_the_sweep_is(
    sweep: MadeSweep, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnreachableError("the bucket does not answer")

    monkeypatch.setattr("orchestrator.report.status.owner_of", fail)

    Notifier(hook.url, sweep.paths).tell()

    assert hook.told[0]["best"]["number"] == 0
