"""Asking a web server without being sent elsewhere."""

from __future__ import annotations

import urllib.request
from http.client import HTTPResponse
from typing import Any

__all__ = ["ask"]


def ask(request: urllib.request.Request | str, seconds: float) -> HTTPResponse:
    """A server's answer, to be closed by the caller; one that names another address is an HTTPError.

    Who follows such an answer asks whatever the server likes: the machine's own services, or the cloud's.
    Raises OSError if nobody answers.
    """
    answer: HTTPResponse = urllib.request.build_opener(_NoRedirects).open(request, timeout=seconds)
    return answer


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None
