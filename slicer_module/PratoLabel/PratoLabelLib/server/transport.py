"""HTTP requests by the library ``requests``, over connections that can be aborted; what goes wrong becomes one sentence for the user.

Proxies and certificates are those that other modules of 3D Slicer use: ``http_proxy``, ``https_proxy`` and ``no_proxy``, the system's
settings on Windows and macOS, and the certificates that :func:`_certificates` finds. Imported with the first request, as ``requests`` takes
its time. Works with urllib3 1.26 and 2 alike.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.utils import get_environ_proxies, select_proxy
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from PratoLabelLib.server.connection import CONNECT_TIMEOUT_S, Cancelled, ConnectError, Connection, ServerError
from PratoLabelLib.translation import translator

_ = translator(__file__)

#: Where certificates are named, the first that is set: requests' own two, and that of OpenSSL, which 3D Slicer sets to its own file.
_CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")

_CERTIFICATES_SET_BY = _("REQUESTS_CA_BUNDLE, SSL_CERT_FILE or the setting PratoLabel/certificate")


def send(
    connection: Connection, method: str, address: str, path: str, token: str, certificate: str, timeout: float, **parts: Any
) -> requests.Response:
    """Send a request to ``address`` and return the whole reply.

    Args:
        connection: opens its sockets, and may be aborted.
        token: "" for none.
        certificate: file that the server's certificate is checked against; "" for the environment's.
        timeout: seconds of silence after which it fails.
        parts: what ``requests.Session.request`` takes.

    Raises:
        ServerError: there is no reply, or it is a refusal.
    """
    proxies, certificates = _proxies(address), _certificates(certificate)
    if address.startswith("https:") and certificates and not os.path.exists(certificates):
        raise ServerError(
            _("There is no file {certificates}: correct {setting}.").format(certificates=certificates, setting=_CERTIFICATES_SET_BY)
        )
    try:
        with requests.Session() as session:
            session.trust_env = False  # it would send what .netrc says in place of the token
            for scheme in ("http://", "https://"):
                session.mount(scheme, ConnectionAdapter(connection))
            response = session.request(
                method,
                address + path,
                auth=_Token(token) if token else None,
                timeout=timeout,
                allow_redirects=False,
                proxies=proxies,
                verify=certificates or True,
                **parts,
            )
    except (requests.RequestException, ConnectError) as error:
        raise (Cancelled() if connection.is_aborted else ServerError(_failure_sentence(error, address, timeout, proxies))) from error
    if connection.is_aborted:
        raise Cancelled()
    refusal = _find_refusal(response, address)
    if refusal:
        raise ServerError(refusal, response.status_code)
    return response


class _Token(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _proxies(address: str) -> dict[str, str]:
    """The environment's proxies for ``address``; none for this machine, which no proxy would find."""
    host = urlsplit(address).hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    return {} if is_here else get_environ_proxies(address)


def _certificates(certificate: str) -> str:
    """The file or folder that servers' certificates are checked against; "" for the file that comes with requests."""
    return certificate or next((os.environ[name] for name in _CERTIFICATE_VARIABLES if os.environ.get(name)), "")


class ConnectionAdapter(HTTPAdapter):
    """What a ``requests.Session`` sends with, so that its sockets belong to ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """requests' own hook, called by the constructor."""
        super().init_poolmanager(*args, **kwargs)
        pools = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}
        self.poolmanager.pool_classes_by_scheme = {scheme: _pool_class(base, self._connection) for scheme, base in pools.items()}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """requests' own hook, called for a request through a proxy."""
        manager = super().proxy_manager_for(*args, **kwargs)
        if not manager.connection_pool_kw.get("_socks_options"):  # a SOCKS proxy has connections of its own, which cannot be aborted
            manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager


def _pool_class(base: type[HTTPConnectionPool], connection: Connection) -> type[HTTPConnectionPool]:
    """urllib3's connection pool ``base``, with sockets that ``connection`` opens."""

    def new_socket(http: Any) -> socket.socket:
        return connection.open_socket(http._dns_host, http.port, http.timeout)

    abortable = type("AbortableConnection", (base.ConnectionCls,), {"_new_conn": new_socket})
    return type(base.__name__, (base,), {"ConnectionCls": abortable})


def _failure_sentence(error: Exception, address: str, timeout: float, proxies: Mapping[str, str]) -> str:
    """Why a request to ``address``, which may stay silent for ``timeout`` s, got no reply."""
    proxy = select_proxy(address, dict(proxies))
    if proxy and _is_of_proxy(error, proxy):
        host, named = urlsplit(address).hostname, re.sub(r".*(://|@)", "", proxy).strip(" /") or proxy  # without a password
        return _("The proxy {named} lets nothing through to {address}: name {host} in no_proxy, or correct http_proxy.").format(
            named=named, address=address, host=host
        )
    if isinstance(error, ConnectError):
        return _connect_sentence(address, error.reason)
    return _broken_sentence(address, timeout, error)


def _is_of_proxy(error: Exception, proxy: str) -> bool:
    """Whether a request failed on its way to ``proxy``: that cannot be reached, lets nothing through, or has an address that is none."""
    errors = requests.exceptions
    is_lost = proxy.startswith("socks") and isinstance(error, errors.ConnectionError) and not isinstance(error, errors.SSLError)
    return is_lost or isinstance(error, (ConnectError, errors.ProxyError, errors.InvalidURL, errors.InvalidSchema))


def _find_refusal(response: requests.Response, address: str) -> str:
    """Why ``response`` is a refusal or incomplete; "" if it is neither."""
    if response.status_code >= 300:
        return _refusal_sentence(response, address)
    length = "" if response.request.method == "HEAD" else response.headers.get("content-length", "")
    # urllib3 1.26 returns a body that was cut short
    short = length.isdigit() and "content-encoding" not in response.headers and len(response.content) != int(length)
    return _("The answer of {address} was incomplete: try again.").format(address=address) if short else ""


def _connect_sentence(address: str, reason: OSError) -> str:
    if isinstance(reason, socket.gaierror):
        return _nowhere_sentence(address)
    if isinstance(reason, ConnectionRefusedError):
        return _("No server runs at {address}: start it there, or correct the address.").format(address=address)
    if isinstance(reason, TimeoutError):
        return _("{address} accepts no connection within {seconds:g} s: check the address, and whether a firewall blocks it.").format(
            address=address, seconds=CONNECT_TIMEOUT_S
        )
    return _("{address} cannot be reached ({reason}): check the network and the address.").format(
        address=address, reason=reason.strerror or reason
    )


def _nowhere_sentence(address: str) -> str:
    return _("There is no machine called {host}: correct the server's address.").format(host=urlsplit(address).hostname)


def _broken_sentence(address: str, timeout: float, error: Exception) -> str:
    if isinstance(error, requests.exceptions.InvalidURL):  # no name of a machine could be like that
        return _nowhere_sentence(address)
    if isinstance(error, requests.Timeout):
        return _("The server gave no answer within {seconds:g} s: it may be busy, so try again later.").format(seconds=timeout)
    if isinstance(error, requests.exceptions.SSLError):
        return _("{address} offers no connection that can be trusted: use http://, or name its certificate in {setting}.").format(
            address=address, setting=_CERTIFICATES_SET_BY
        )
    return _("The connection to {address} was lost: check that the server still runs, and try again.").format(address=address)


def _refusal_sentence(response: requests.Response, address: str) -> str:
    status, reason = response.status_code, f"{response.status_code} {response.reason}"
    if status < 400:
        return _("{address} redirects to {location}: connect to that address.").format(
            address=address, location=response.headers.get("location")
        )
    if status == 401:
        return _("The server requires a valid access token: ask whoever runs it for one.")
    if status == 403:
        return _("This access token does not allow that: ask whoever runs the server for one that does.")
    if status == 407:
        return _("The proxy on the way to {address} requires a name and password: put them into http_proxy.").format(address=address)
    if status == 413:
        return _("This is more than the server accepts at once: ask whoever runs it to raise its limit.")
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    if isinstance(detail, str) and detail:
        return detail if detail.endswith(".") else f"{detail}."
    if status < 500:
        return _("{address} refused the request ({reason}): check that a PrATo Label server runs there.").format(
            address=address, reason=reason
        )
    return _("The server failed ({reason}): try again, or look at its log.").format(reason=reason)
