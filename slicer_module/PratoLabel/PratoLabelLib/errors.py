"""What goes wrong between the module and the server, in one sentence for the user that says what to do."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import requests

from PratoLabelLib.connection import CONNECT_S, UnreachableError


class ServerError(Exception):
    """``str(error)`` is one sentence for the user; ``status`` is the HTTP status, None when there was no answer."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class Cancelled(ServerError):
    """The request was cancelled."""

    def __init__(self) -> None:
        super().__init__("The request was cancelled.")


def no_answer(address: str, timeout: float, error: Exception) -> ServerError:
    """Why a request to ``address`` that may be silent for ``timeout`` s came back without an answer, from what was raised."""
    return ServerError(_unreachable(address, error.reason) if isinstance(error, UnreachableError) else _broken(address, timeout, error))


def refusal(address: str, response: requests.Response) -> ServerError | None:
    """Why ``response`` is not what was asked for; None if it is."""
    status, reason = response.status_code, f"{response.status_code} {response.reason}"
    if status < 300:
        length = response.headers.get("content-length", "")
        # urllib3 1.26 hands out an answer that was cut short
        short = length.isdigit() and "content-encoding" not in response.headers and len(response.content) != int(length)
        return ServerError(f"The answer of {address} was cut short: try again.", status) if short else None
    if status < 400:
        return ServerError(f"{address} sends requests on to {response.headers.get('location')}: connect to that address.", status)
    if status == 401:
        return ServerError("The server wants an access token that it knows: ask whoever runs it for one.", status)
    if status == 403:
        return ServerError("This access token does not allow that: ask whoever runs the server for one that does.", status)
    if status == 413:
        return ServerError("This is more than the server accepts at once: ask whoever runs it to raise its limit.", status)
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    if isinstance(detail, str) and detail:
        return ServerError(detail if detail.endswith(".") else f"{detail}.", status)
    if status < 500:
        return ServerError(f"{address} refused the request ({reason}): see whether a PrATo Label server runs there.", status)
    return ServerError(f"The server failed ({reason}): try again, or look into its log.", status)


def _unreachable(address: str, reason: OSError) -> str:
    if isinstance(reason, socket.gaierror):
        return f"There is no machine called {urlsplit(address).hostname}: correct the server's address."
    if isinstance(reason, ConnectionRefusedError):
        return f"No server runs at {address}: start it there, or correct the address."
    if isinstance(reason, TimeoutError):
        return f"{address} takes no connection within {CONNECT_S:g} s: check the address, and whether a firewall stands between."
    return f"{address} cannot be reached ({reason.strerror or reason}): check the network and the address."


def _broken(address: str, timeout: float, error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return f"The server gave no answer within {timeout:g} s: it may be busy, so try again later."
    if isinstance(error, requests.exceptions.SSLError):
        return f"{address} offers no connection that can be trusted: write http://, or name its certificate in REQUESTS_CA_BUNDLE."
    return f"The connection to {address} broke off: see whether the server still runs, and try again."
