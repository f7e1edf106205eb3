"""`${env:NAME}` in an experiment file: what it may stand for, and secrets that belong behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cpsc_core.redaction import SECRET_NAME
from orchestrator.config.difference import MAY_CHANGE
from orchestrator.config.document import Keys, Node, Problem
from orchestrator.config.yaml_file import LONGEST_TEXT, scalar, text_problem

__all__ = ["expand", "find_misuse", "find_secrets"]

_REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")

_ALLOWED_IN = MAY_CHANGE | {"teacher.checkpoint"}
"""A sweep is resumed from its file; what decides a trial must not hang on the shell it is resumed from."""

# Each stops where the next could begin, so that no text takes longer than its length.
_USER = re.compile(r"://([^/?#@\s]*)@")
_PARAMETER = re.compile(r"[?&]([^?&=]*)=[^&\s]")


def expand(value: Any, environment: Mapping[str, str]) -> Any:
    """A scalar with references replaced; one that is nothing but a reference is read as if it stood there.

    What `find_misuse` reports is left as it is.
    """
    if not isinstance(value, str):
        return value
    text = _REFERENCE.sub(lambda found: environment.get(found[1], found[0]), value)
    if text_problem(text):
        return value
    return scalar(text) if _REFERENCE.fullmatch(value) else text


def find_misuse(root: Node, environment: Mapping[str, str]) -> Iterator[Problem]:
    """References that are malformed, stand where none may, or name a variable that is not set."""
    for keys, node in root.scalars():
        if isinstance(node.value, str) and (text := _misuse(keys, node.value, environment)):
            yield Problem(keys, text)


def find_secrets(root: Node) -> Iterator[Problem]:
    """Keys that ask for a secret, and addresses that hold one in plain text."""
    for keys, node in root.scalars():
        for end, key in enumerate(keys, start=1):
            if isinstance(key, str) and SECRET_NAME.search(key):
                yield Problem(
                    keys[:end],
                    "secrets do not belong here; MLflow reads MLFLOW_TRACKING_PASSWORD from the environment",
                )
        if isinstance(node.value, str) and _has_secret(_REFERENCE.sub("", node.value)):
            yield Problem(keys, "holds a password or token in plain text; write ${env:NAME} in its place")


def _has_secret(address: str) -> bool:
    """Whether an address has a password before its host, or a parameter that is called like a secret."""
    passwords = (user.partition(":")[2] for user in _USER.findall(address))
    return any(passwords) or any(map(SECRET_NAME.search, _PARAMETER.findall(address)))


def _misuse(keys: Keys, text: str, environment: Mapping[str, str]) -> str | None:
    if "${" not in text:
        return None
    if "${" in _REFERENCE.sub("", text):
        return "a reference to the environment is written ${env:NAME}"
    if not any(keys[: len(path)] == path for path in (tuple(each.split(".")) for each in _ALLOWED_IN)):
        return (
            "cannot depend on the environment, or a resumed sweep could mean another experiment; write "
            f"the value here or give it with --set (references are for {', '.join(sorted(_ALLOWED_IN))})"
        )
    for name in _REFERENCE.findall(text):
        if not (value := environment.get(name)):
            return f"the environment variable {name} is {'not set' if value is None else 'empty'}"
        if len(value) <= LONGEST_TEXT and text_problem(value):
            return f"the environment variable {name} holds a control character"
    if len(_REFERENCE.sub(lambda found: environment[found[1]], text)) > LONGEST_TEXT:
        return f"stands for more than {LONGEST_TEXT:,} characters, which no value needs"
    return None
