"""Text for logs and records, without the secrets that this process was given."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping

__all__ = ["HIDDEN", "SECRET_NAME", "RedactingFormatter", "redact"]

HIDDEN = "***"
"""What stands where a secret stood."""

SECRET_NAME = re.compile("pass|secret|token|api[_-]?key|credential", re.IGNORECASE)
"""Is found in what names a secret: a variable, a key, a parameter of an address."""

_NOT_ITSELF = re.compile("_(PATH|FILE|DIR|MODE|URL|USER|USERNAME|ID)$")
_SHORTEST = 6
# Each stops where the next could begin, so that no text takes longer than its length.
_USER = re.compile(r"(://)[^/?#@\s]+@")
_PARAMETER = re.compile(r"([?&][^?&=\s]*=)([^?&\s'\"]+)")


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text without values of variables that are called like secrets, and without those in addresses.

    A variable that says where a secret lies, or a value too short to be one, is no secret.
    """
    for secret in sorted(_secrets(environment), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _USER.sub(rf"\g<1>{HIDDEN}@", text)
    return _PARAMETER.sub(_hide_parameter, text)


class RedactingFormatter(logging.Formatter):
    """Formats records, traces included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, and what comes below it."""
        return redact(super().format(record))


def _secrets(environment: Mapping[str, str]) -> set[str]:
    return {
        value
        for name, value in environment.items()
        if SECRET_NAME.search(name) and not _NOT_ITSELF.search(name.upper()) and len(value) >= _SHORTEST
    }


def _hide_parameter(found: re.Match[str]) -> str:
    return f"{found[1]}{HIDDEN}" if SECRET_NAME.search(found[1]) else found[0]
