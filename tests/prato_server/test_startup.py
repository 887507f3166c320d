"""The server starts, or says in one sentence why not; nothing is left behind by asking."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prato_server import startup
from prato_server.startup import allow_open_files, reason_not_to_listen, reason_not_to_start
from tests.app.live import APP
from tests.waiting import HANG_S


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    return tmp_path / "app"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


@pytest.fixture
def port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_a_folder_that_is_new_or_was_served_before(app: Path, studies: Path, port: str, tmp_path: Path) -> None:
    assert reason_not_to_start(app, str(studies), "127.0.0.1", port) is None
    for part in ("labels/final", "labels/original", "label_history"):
        (studies / part).mkdir(parents=True)
    for part in (".lock", "datastore_v2.json"):
        (studies / part).write_bytes(b"")
    for part in ("model", "logs", "bin"):
        (app / part).mkdir()
    before = tree(tmp_path)
    assert reason_not_to_start(app, str(studies), "127.0.0.1", port) is None
    assert tree(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_server_may_open_more_files_than_a_service_begins_with(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(startup, "_OPEN_FILES", 500)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for few in (200, 600):  # whoever has allowed more is not given less
            resource.setrlimit(resource.RLIMIT_NOFILE, (few, before[1]))
            allow_open_files()
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (max(few, 500), before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


printable = st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/", include_characters=" ")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.text(printable, min_size=1, max_size=40))
def test_whatever_printable_name_the_folder_has(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "any" / f"_{name}"
    folder.mkdir(parents=True, exist_ok=True)
    fault = reason_not_to_start(tmp_path, str(folder), "127.0.0.1", "0")
    assert fault == "--port must be a number from 1 to 65535, not '0'."


def nothing_there(studies: Path) -> str:
    studies.rmdir()
    return f"{studies} is not a folder: give --studies a folder of NIfTI images."


def a_file(studies: Path) -> str:
    studies.rmdir()
    studies.touch()
    return f"{studies} is a file, not a folder: give --studies a folder of NIfTI images."


def a_dangling_link(studies: Path) -> str:
    studies.rmdir()
    studies.symlink_to("/nowhere")
    return f"{studies} cannot be reached: give --studies a folder of NIfTI images."


def labels_that_are_a_file(studies: Path) -> str:
    (studies / "labels").touch()
    return f"{studies / 'labels'} must be a folder: rename what is there, and the server creates the folder."


def a_list_that_is_a_folder(studies: Path) -> str:
    (studies / "datastore_v2.json").mkdir()
    return f"{studies / 'datastore_v2.json'} must be a file: rename what is there, and the server creates the file."


@pytest.mark.parametrize("situation", [nothing_there, a_file, a_dangling_link, labels_that_are_a_file, a_list_that_is_a_folder])
def test_studies_that_cannot_be_served(app: Path, studies: Path, port: str, situation: Callable[[Path], str]) -> None:
    sentence = situation(studies)
    before = tree(studies.parent)
    assert reason_not_to_start(app, str(studies), "127.0.0.1", port) == sentence
    assert tree(studies.parent) == before


@pytest.mark.parametrize("name", ["line\nend", "byte\udcff", "\x1b[31mred"])
def test_names_that_no_log_can_hold(app: Path, tmp_path: Path, port: str, name: str) -> None:
    (tmp_path / name).mkdir()
    fault = reason_not_to_start(app, str(tmp_path / name), "127.0.0.1", port)
    assert fault is not None and fault.isprintable() and "characters that logs and replies cannot hold" in fault


def test_a_port_that_is_taken(app: Path, studies: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = str(other.getsockname()[1])
        fault = reason_not_to_start(app, str(studies), "127.0.0.1", taken)
        assert fault is not None and fault.startswith(f"Port {taken} of 127.0.0.1 is in use by another program")


def test_several_processes_behind_one_port(app: Path, studies: Path, port: str) -> None:
    for one in (["--workers", "1"], ["--workers"], []):
        assert reason_not_to_start(app, str(studies), "127.0.0.1", port, one) is None
    for several in (["--workers", "2"], ["--workers=4"]):
        assert str(reason_not_to_start(app, str(studies), "127.0.0.1", port, several)).startswith("--workers must be 1, as trainings")


@pytest.mark.parametrize("port", ["", "http", "-1", "65536", "8000.0", "٨"])
def test_what_is_no_port(app: Path, studies: Path, port: str) -> None:
    assert reason_not_to_start(app, str(studies), "127.0.0.1", port) == f"--port must be a number from 1 to 65535, not {port!r}."


@pytest.mark.parametrize(("host", "words"), [("192.0.2.7", "is not an address of this machine"), ("a..b", "is not an address")])
def test_what_is_no_address_here(app: Path, studies: Path, port: str, host: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRATO_LABEL_TOKEN", "a-token-for-the-tests-0123456789")
    fault = reason_not_to_start(app, str(studies), host, port)
    assert fault is not None and host in fault and words in fault


def test_files_that_options_name(app: Path, studies: Path, port: str) -> None:
    options = ["--verbose", "INFO", "--ssl_keyfile", "/nowhere/key.pem"]
    fault = reason_not_to_start(app, str(studies), "127.0.0.1", port, options)
    assert fault == "--ssl_keyfile names /nowhere/key.pem, which cannot be read: name an existing, readable file."


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a.key`` with ``a.crt``, the same for b, and ``locked.key``, which is a's, encrypted."""
    folder = tmp_path_factory.mktemp("certificates")
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    for name in "ab":
        kind = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a"]
        make = ["openssl", "req", *kind, "-keyout", f"{name}.key", "-out", f"{name}.crt"]
        subprocess.run(make, cwd=folder, check=True, capture_output=True)
    lock = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", "a.key", "-out", "locked.key"]
    subprocess.run(lock, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--ssl_keyfile a.key --ssl_certfile a.crt", None),
        ("--ssl_keyfile=locked.key --ssl_certfile=a.crt --ssl_keyfile_password secret", None),
        ("--ssl_keyfile a.key", "needs the certificate as well"),
        ("--ssl_certfile a.crt", "is no PEM file"),
        ("--ssl_keyfile b.key --ssl_certfile a.crt", "the key does not belong to the certificate"),
        ("--ssl_keyfile a.crt --ssl_certfile a.key", "is no PEM file"),
        ("--ssl_keyfile locked.key --ssl_certfile a.crt", "or is encrypted"),
        ("--ssl_keyfile=nowhere --ssl_certfile=a.crt", "--ssl_keyfile names nowhere"),
    ],
)
def test_certificates(
    app: Path, studies: Path, port: str, certificates: Path, monkeypatch: pytest.MonkeyPatch, options: str, words: str | None
) -> None:
    monkeypatch.chdir(certificates)
    fault = reason_not_to_start(app, str(studies), "127.0.0.1", port, options.split())
    assert fault is None if words is None else fault is not None and words in fault


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, with an app's folder and one of studies; the tests' own is for its owner alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "studies" / "labels" / "final").mkdir(parents=True)
        (folder / "app").mkdir()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777)
        yield folder


CODE = """
import encodings.idna, os, sys  # while the libraries can be read
from pathlib import Path
sys.path.insert(0, os.environ["APP"])
from prato_server.startup import reason_not_to_start
if os.geteuid() == 0:  # who may write everywhere
    os.setuid(65534)
print(reason_not_to_start(Path(sys.argv[1]), *sys.argv[2:]))
"""


def _asked_as_somebody(folder: Path, port: str) -> str:
    """What somebody who is not root is told; the permissions are open again afterwards, so that the folder can be removed."""
    try:
        command = [sys.executable, "-c", CODE, str(folder / "app"), str(folder / "studies"), "127.0.0.1", port]
        environment = {**os.environ, "APP": str(APP)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=HANG_S)
    finally:
        for path in (folder / "studies", folder / "app", folder / "studies/labels/final"):
            path.chmod(0o777)
    if "PermissionError" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("root may write everywhere, and nobody may not read the app or the libraries here")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("place", "mode"), [("studies", 0o555), ("studies", 0o000), ("studies/labels/final", 0o555), ("app", 0o555)])
def test_folders_that_may_not_be_written_to(open_folder: Path, port: str, place: str, mode: int) -> None:
    (open_folder / place).chmod(mode)
    said = _asked_as_somebody(open_folder, port)
    assert said.startswith(str(open_folder / place))
    assert "cannot be read (permission denied)" in said or "cannot be written to (permission denied), and" in said
    assert said.count("\n") == 1


def test_code_that_may_not_be_written_to_serves_if_models_and_logs_may(open_folder: Path, port: str) -> None:
    for name in ("model", "logs", "bin"):
        (open_folder / "app" / name).mkdir()
        (open_folder / "app" / name).chmod(0o777)
    (open_folder / "app").chmod(0o555)
    assert _asked_as_somebody(open_folder, port) == "None\n"
    (open_folder / "app" / "bin").rmdir()
    (open_folder / "app").chmod(0o555)
    assert _asked_as_somebody(open_folder, port).startswith(f"{open_folder / 'app'} cannot be written to (permission denied), and models")


def test_the_command_itself(studies: Path) -> None:
    """Before anything is loaded: exit code 2 and one line."""
    command = [sys.executable, str(APP / "serve.py"), "--studies", str(studies / "a$b")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{studies / 'a$b'} is not a folder: give --studies a folder of NIfTI images.\n"


@pytest.mark.parametrize("name", ["a$b", "it's", "[x] {y} %s ü #", '"quoted"', "$(touch x)", "`touch x`", "a b"])
def test_make_passes_any_name_on(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    for where in (name, f"{name}c"):
        command = ["make", "-s", "studies-given", f"STUDIES={tmp_path / where}"]
        done = subprocess.run(command, cwd=APP.parents[1], capture_output=True, text=True, timeout=HANG_S, check=False)
        assert (done.returncode == 0) == (where == name), done.stderr
        assert where == name or f"{tmp_path / where} is not a folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_make_asks_for_the_studies_before_it_installs_anything(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(APP.parents[1] / name, tmp_path)
    python = tmp_path / "bin" / "python3.11"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho called >> called.txt\nmkdir -p .venv/bin\ncp bin/python3.11 .venv/bin/python\n")
    python.chmod(0o755)
    environment = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
    command = ["make", "-s", "-j4", "serve", f"STUDIES={tmp_path / 'nowhere'}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 2 and "nowhere is not a folder" in done.stderr
    assert not (tmp_path / "called.txt").exists()
    command[-1] = f"STUDIES={tmp_path}"
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=HANG_S, check=True)
    assert (tmp_path / ".venv" / ".installed").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://ann:secret@pacs:8042/dicom-web", "must not hold credentials: set PRATO_LABEL_PACS_USER"),
        ("http:///dicom-web", "names no host"),
        ("http://[::1/dicom-web", "The address of the PACS cannot be read: give one such as http://pacs:8042/dicom-web."),
    ],
)
def test_an_address_of_a_pacs_that_cannot_be_served(url: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRATO_LABEL_PACS_FOLDER", str(tmp_path / "kept"))
    reason = reason_not_to_start(tmp_path, url, "127.0.0.1", "8000")
    assert reason is not None and words in reason and "secret" not in reason
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    "form", [["-i", "127.0.0.1", "-p", "{}"], ["--host", "127.0.0.1", "--port={}"], ["-i127.0.0.1", "--port", "1", "-p{}"]]
)
def test_the_stock_command_on_a_port_that_is_taken(form: list[str], port: str) -> None:
    arguments = ["start_server", "--app", "a", *(part.format(port) for part in form), "--studies", "s", "--conf", "models", "all"]
    assert reason_not_to_listen(arguments) is None
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(port)))
        other.listen()
        assert str(reason_not_to_listen(arguments)).startswith(f"Port {port} of 127.0.0.1 is in use by another program")
        assert reason_not_to_listen(["apps", *arguments[1:]]) is None  # the command listens nowhere
        assert reason_not_to_listen([*arguments, "--workers", "2"]) is None  # the parent listens, which is in the way of none


def test_torch_comes_after_the_environment_that_it_reads() -> None:
    """OpenMP reads how its threads wait when it is loaded, with torch."""
    asked = "import serve, sys; print(serve._DEFAULTS['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], cwd=APP, capture_output=True, text=True, timeout=HANG_S, check=True)
    assert done.stdout.split() == ["PASSIVE", "False"]
