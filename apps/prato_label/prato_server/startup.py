"""Why the server would not start, in one sentence, before seconds of loading end in a traceback."""

from __future__ import annotations

import argparse
import errno
import os
import socket
import ssl
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from prato_server.settings import PREFIX, SettingsError, folder_for_pacs, is_loopback, load_settings

if sys.platform != "win32":
    import resource

_REMOTE = ("http://", "https://")
#: Folders and files that the server writes in the studies folder ("" is that itself) and in the app's, whose code it only reads.
_STUDIES_FOLDERS, _STUDIES_FILES = ("", "labels", "labels/final", "labels/original", "label_history"), (".lock", "datastore_v2.json")
_APP_FOLDERS, _APP_FILES = ("model", "logs", "bin"), ("logs/app.log",)
#: Bytes that must fit into the folder of temporary files for the server to start.
_ROOM = 2**16
#: Options of the stock command that name files.
_FILE_OPTIONS = ("--ssl_keyfile", "--ssl_certfile", "--ssl_ca_certs", "--log_config")
#: A full disk is no reason: all that writes nothing goes on, and what writes says so.
_FULL = (errno.ENOSPC, errno.EDQUOT)
#: More than one machine can hold connections to a port.
_OPEN_FILES = 2**16


def allow_open_files() -> None:
    """Let this process open as many files as the system lets it have, and more than the few that a service begins with.

    Each connection is one, also of a client that only holds it, and a server that can open no more answers nobody.
    """
    if sys.platform != "win32":
        now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
        if now != resource.RLIM_INFINITY and now < wanted:
            with suppress(ValueError, OSError):  # macOS has a limit of its own, lower than the one that it names
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def reason_not_to_start(app: Path, studies: str, host: str, port: str, options: Sequence[str] = ()) -> str | None:
    """Why the server would not start, in one sentence; None if it would.

    Args:
        app: the folder of ``main.py``.
        studies: folder, or address of a DICOMweb server.
        options: further ones of the stock command, as it gets them.
    """
    try:
        token = load_settings().read_token()
    except SettingsError as error:
        return str(error)
    if token is None and not is_loopback(host):
        return f"Without an access token the server binds to 127.0.0.1 only, not {host}: set {PREFIX}TOKEN or {PREFIX}TOKEN_FILE."
    return reason_not_to_serve(app, studies) or _workers_fault(options) or _files_fault(options) or _port_fault(host, port)


def reason_not_to_serve(app: Path, studies: str) -> str | None:
    """Why the folders ``app`` and ``studies`` could not be served, in one sentence; None if they could."""
    return (
        (_pacs_fault(studies) if studies.startswith(_REMOTE) else _studies_fault(studies))
        or _name_fault("The app's folder", str(app), '"')
        or _writing_fault(app, _APP_FOLDERS, _APP_FILES, "models and logs are kept there: give the server write permission")
        or _scratch_fault()
    )


def reason_not_to_listen(arguments: Sequence[str]) -> str | None:
    """Why the stock command could not listen where its ``arguments`` tell it to, in one sentence; None if it could.

    It tries only after seconds of loading. Other commands than ``start_server`` do not listen, and of several workers the parent does.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-i", "--host", default="0.0.0.0")
    parser.add_argument("-p", "--port", default="8000")
    parser.add_argument("--workers")
    options, _ = parser.parse_known_args(arguments[1:])
    if arguments[:1] != ["start_server"] or options.workers:
        return None
    return _port_fault(options.host, options.port)


def _studies_fault(studies: str) -> str | None:
    folder = Path(studies)
    try:
        is_folder, is_there = folder.is_dir(), os.path.lexists(folder)
    except (OSError, ValueError):  # a name that is too long, or that no file can have
        is_folder = is_there = False
    wanted = "give --studies a folder of NIfTI images"
    if not is_folder:
        what = "is a file, not a folder" if folder.is_file() else "cannot be reached" if is_there else "is not a folder"
        return f"{studies if studies.isprintable() else ascii(studies):.200} {what}: {wanted}."
    if fault := _name_fault("The studies folder", studies):
        return fault
    try:
        os.listdir(folder)
    except OSError as error:
        return f"{studies} cannot be read ({_words(error)}): give the server read permission, or name another folder."
    return _writing_fault(folder, _STUDIES_FOLDERS, _STUDIES_FILES, "labels are stored there: give the server write permission")


def _pacs_fault(url: str) -> str | None:
    """Why the PACS at ``url`` could not be served, as far as that is known without asking it."""
    wanted = "give one such as http://pacs:8042/dicom-web"
    try:
        parts = urlsplit(url)
    except ValueError:  # as of brackets that are not closed
        return f"The address of the PACS cannot be read: {wanted}."
    if parts.username is not None or parts.password is not None:
        return f"The address of the PACS must not hold credentials: set {PREFIX}PACS_USER and {PREFIX}PACS_PASSWORD instead."
    if not parts.hostname:
        return f"The address of the PACS names no host: {wanted}."
    folder = folder_for_pacs(load_settings(), url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder}, where labels are kept, cannot be created ({_words(error)}): name another folder in {PREFIX}PACS_FOLDER."
    return _studies_fault(str(folder))


def _name_fault(what: str, path: str, forbidden: str = "") -> str | None:
    """A folder whose name cannot stand in a log or a reply."""
    full = os.path.realpath(path)
    if not full.isprintable() or set(forbidden) & set(full):  # not printable: line ends, and bytes that are no text
        return f"{what} has a name with characters that logs and replies cannot hold ({full!a:.200}): rename it."
    return None


def _writing_fault(folder: Path, folders: Sequence[str], files: Sequence[str], wanted: str) -> str | None:
    """Why the ``folders`` and ``files`` of ``folder`` could not be written to, or made where they are missing. Leaves nothing behind."""
    path = folder
    try:
        for part in folders:
            path = folder / part
            if os.path.lexists(path) and not path.is_dir():
                return f"{path} must be a folder: rename what is there, and the server creates the folder."
            path = path if path.is_dir() else path.parent
            if path.is_dir():
                handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path)
                os.close(handle)
                os.unlink(name)
        for path in (folder / part for part in files):
            if path.is_dir():
                return f"{path} must be a file: rename what is there, and the server creates the file."
            if path.exists():
                with path.open("ab"):
                    pass
    except OSError as error:
        if error.errno not in _FULL:
            return f"{path} cannot be written to ({_words(error)}), and {wanted}."
    return None


def _scratch_fault() -> str | None:
    """Why temporary files could not be written: not even the log's settings would find their place."""
    wanted = "free some space there, or name another folder in TMPDIR"
    try:
        with tempfile.TemporaryFile() as file:
            file.write(bytes(_ROOM))
            file.flush()
    except FileNotFoundError:
        return f"There is no folder for temporary files that can be written to: {wanted}."
    except OSError as error:
        return f"Temporary files cannot be written to {tempfile.gettempdir()} ({_words(error)}): {wanted}."
    return None


def _workers_fault(options: Sequence[str]) -> str | None:
    """Several processes behind one port: each would know only the trainings, batches and waiting requests of its own."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--workers", nargs="?", default="1")  # without a value: the stock command says so
    workers = parser.parse_known_args(list(options))[0].workers
    if workers in (None, "1"):
        return None
    return "--workers must be 1, as trainings and waiting requests are those of one process: leave it out, or start several servers."


def _files_fault(options: Sequence[str]) -> str | None:
    """Files that the stock command's ``options`` name, and that are not there, or with which HTTPS would not work."""
    parser = argparse.ArgumentParser(add_help=False)
    for name in (*_FILE_OPTIONS, "--ssl_keyfile_password"):
        parser.add_argument(name, nargs="?", default="")  # without a value: the stock command says so
    given, _ = parser.parse_known_args(list(options))
    for name in _FILE_OPTIONS:
        value = getattr(given, name[2:])
        if value and not os.access(value, os.R_OK):
            return f"{name} names {value}, which cannot be read: name an existing, readable file."
    if given.ssl_keyfile and not given.ssl_certfile:
        return "--ssl_keyfile needs the certificate as well: name its file in --ssl_certfile."
    if given.ssl_certfile:
        try:
            password = given.ssl_keyfile_password or ""  # not asked for at a terminal, which a service does not have
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(given.ssl_certfile, given.ssl_keyfile or None, password)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            is_other = "KEY_VALUES_MISMATCH" in str(error)
            what = "the key does not belong to the certificate" if is_other else "one is no PEM file, or is encrypted"
            wanted = "name a certificate, its key, and --ssl_keyfile_password if that has one"
            return f"--ssl_certfile and --ssl_keyfile cannot be used ({what}): {wanted}."
    return None


def _port_fault(host: str, port: str) -> str | None:
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        return f"--port must be a number from 1 to 65535, not {port!r:.40}."
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        return f"--host {host!r:.80} is not an address: use 127.0.0.1, or 0.0.0.0 for all addresses of this machine."
    with socket.socket(family, kind, protocol) as probe:
        if os.name == "posix":  # as the server binds: a port that was left a moment ago is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"Port {port} of {host} is in use by another program, perhaps another server: stop it, or choose another --port."
            if error.errno == errno.EADDRNOTAVAIL:
                return f"--host {host} is not an address of this machine: use 127.0.0.1, or 0.0.0.0 for all of its addresses."
            return f"Port {port} of {host} cannot be used ({_words(error)}): choose another --port, above 1023."
    return None


def _words(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
