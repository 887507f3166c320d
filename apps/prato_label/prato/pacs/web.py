"""A PACS over DICOMweb, whatever state it is in: every fault is a ``PacsError`` with one sentence, within a bounded time."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import quote

import requests
import urllib3
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset

#: Seconds until a connection has to stand, until the next byte has to come, and until an answer has to be whole.
_CONNECT_S, _READ_S, _WHOLE_S = 5.0, 60.0, 300.0
_MAX_BYTES = 2 * 2**30
#: Seconds until a list has to be read to its end, and of what number of series services limit an answer to a multiple.
_LIST_S, _ROUND = 3600.0, 25
_ACTIONS = {
    401: "requires credentials: set PRATO_LABEL_PACS_USER and PRATO_LABEL_PACS_PASSWORD, or PRATO_LABEL_PACS_TOKEN",
    403: "does not allow this to the user whose credentials were given",
    404: "has no such address or image: check that the address is that of its DICOMweb service, such as http://pacs:8042/dicom-web",
    413: "refuses so large a file: raise its limit",
    507: "is full: free some space there",
}
#: What the same answer means where an image is asked for that it has listed.
_GONE = "does not hold an image any more that it held before: restore it there"
#: Refused as an object of that UID is there; ours are hashes of what they say.
_DUPLICATE = 0x0111
_FAILURES = {0xA700: "is full: free some space there", 0x0110: "could not process it", 0x0122: "stores no objects of that kind"}


class PacsError(OSError):
    """The PACS did not do what was asked; the message is one sentence. ``is_general``: nor would it do anything else now."""

    def __init__(self, message: str, is_general: bool = False) -> None:
        super().__init__(message)
        self.is_general = is_general

    def __str__(self) -> str:
        return str(self.args[0])


class GoneError(PacsError):
    """It does not hold the image that it was asked for."""


class Answer(NamedTuple):
    """Of an HTTP service: the status, and the content with its media type."""

    status: int
    content_type: str
    content: bytes


class _BoundedSession(requests.Session):
    """Reads no answer for longer than ``_WHOLE_S``, however slowly it drips, and none larger than ``_MAX_BYTES``.

    Attributes:
        last: ``warning`` is what the answer that each thread has got last said beside it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last = threading.local()

    def request(self, method: str, url: str | bytes, *arguments: Any, **options: Any) -> requests.Response:
        options.update(stream=True, timeout=(_CONNECT_S, _READ_S))
        until = time.monotonic() + _WHOLE_S
        try:
            response = super().request(method, url, *arguments, **options)
        except requests.exceptions.ConnectionError as error:
            # as a service does that ends a connection which nothing was asked over for a while (Orthanc: 1 s), while it is asked again
            if method != "GET" or not _was_ended_unanswered(error):
                raise
            response = super().request(method, url, *arguments, **options)
        content = bytearray()
        with response:
            # not iter_content, which waits until so many bytes are there
            while chunk := response.raw.read1(2**16, decode_content=True):
                content += chunk
                if time.monotonic() > until:
                    raise requests.exceptions.ReadTimeout("the answer did not end")
                if len(content) > _MAX_BYTES:
                    raise ValueError("an answer without end")
        response._content = bytes(content)
        self.last.warning = response.headers.get("Warning", "")
        return response


def _was_ended_unanswered(error: requests.exceptions.ConnectionError) -> bool:
    """Whether the connection stood, and was ended before the first byte of an answer."""
    cause = error.args[0] if error.args else None
    return isinstance(cause, urllib3.exceptions.ProtocolError) and isinstance(cause.args[-1], ConnectionResetError | BrokenPipeError)


class _Bearer(requests.auth.AuthBase):
    """As a header alone it would give way to a .netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Pacs:
    """The DICOMweb service at ``url``.

    Args:
        user, password: for HTTP basic authentication; token: a bearer token instead. They go nowhere but into the requests' headers.
    """

    def __init__(self, url: str, user: str | None = None, password: str | None = None, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._session = session = _BoundedSession()
        if user:
            session.auth = requests.auth.HTTPBasicAuth(user.encode(), (password or "").encode())
        elif token:
            session.auth = _Bearer(token)
        try:
            self._client = DICOMwebClient(self.url, session=session)
        except ValueError as error:
            raise PacsError("The PACS's address is not valid: it must be like http://pacs:8042/dicom-web.") from error
        self._client.set_http_retry_params(retry=False)

    def search_series(self, filters: Mapping[str, Any]) -> tuple[list[Dataset], bool]:
        """Study and series UIDs, and number of images, of every series that ``filters`` (by DICOM's names) let through, and whether these
        are all: of a list that the service has cut, it may know no way to tell the rest.

        Raises:
            PacsError: as all methods.
        """
        fields = ["NumberOfSeriesRelatedInstances"]
        found: list[Dataset] = []
        first: list[str] | None = None
        with self._sentences("the list of its series"):
            # until an answer brings nothing new: any service may cut its answers anywhere, and what arrives meanwhile moves what was told
            # into the next one. Not the client's own loop, which a PACS that ignores "offset" would keep for ever
            until = time.monotonic() + _LIST_S
            while time.monotonic() < until:
                is_round = len(found) % _ROUND == 0  # a round number of series may be a part
                try:
                    page = self._client.search_for_series(search_filters=dict(filters), fields=fields, offset=len(found) or None)
                except requests.exceptions.HTTPError as error:
                    # so some services say that nothing is there, or that they know no "offset"
                    if error.response is None or error.response.status_code not in (400, 404) or not found:
                        raise
                    return found, not is_round
                known = {str(series.SeriesInstanceUID) for series in found}
                told = [*map(_dataset, page)]
                uids = [str(series.SeriesInstanceUID) for series in told]
                found += [series for series, uid in zip(told, uids) if uid not in known]
                if known.issuperset(uids):
                    is_repeated = bool(uids) and uids == first
                    return found, not (is_repeated and is_round) and "additional results" not in self._session.last.warning.lower()
                first = first or uids
            raise requests.exceptions.Timeout("a list without end")

    def series_headers(self, study: str, series: str) -> list[Dataset]:
        """The headers of all images of a series."""
        with self._sentences("the headers of a series"):
            return [_dataset(item) for item in self._client.retrieve_series_metadata(study, series)]

    def header(self, study: str, series: str, instance: str) -> Dataset:
        """The header of one image."""
        with self._sentences("the header of an image", is_of_image=True):
            return _dataset(self._client.retrieve_instance_metadata(study, series, instance))

    def image(self, study: str, series: str, instance: str) -> Dataset:
        """One image, in the transfer syntax that it is stored in."""
        with self._sentences("an image", is_of_image=True):
            dataset = self._client.retrieve_instance(study, series, instance, media_types=(("application/dicom", "*"),))
            if str(dataset.SOPInstanceUID) != instance:
                raise ValueError("another image than the one that was asked for")
            return dataset

    def has_instance(self, study: str, instance: str) -> bool:
        """Whether the object is there."""
        with self._sentences("the search result for an object"):
            found = self._client.search_for_instances(study, search_filters={"SOPInstanceUID": instance})
            return any(str(_dataset(item).SOPInstanceUID) == instance for item in found)

    def store(self, dataset: Dataset) -> None:
        """Store one object; that it is there already is no error."""
        uid = str(dataset.SOPInstanceUID)
        with self._sentences("confirmation that an object was stored"):
            try:
                reply = self._client.store_instances([dataset])
            except requests.exceptions.HTTPError as error:
                if error.response is None or error.response.status_code != 409:
                    raise
                reply = Dataset.from_json(error.response.json())  # refused, and why
            for item in reply.get("FailedSOPSequence") or ():
                reason = int(item.get("FailureReason") or 0)
                if reason == _DUPLICATE and str(item.get("ReferencedSOPInstanceUID", "")) == uid:
                    return
                sentence = _FAILURES.get(reason & 0xFF00 if reason & 0xFF00 == 0xA700 else reason, f"refused it (reason {reason:#06x})")
                raise PacsError(f"The PACS {sentence}.")
            stored = [str(item.ReferencedSOPInstanceUID) for item in reply.get("ReferencedSOPSequence") or ()]
            if uid not in stored:
                raise ValueError("no acknowledgement")

    def relay(self, method: str, path: str, query: str = "", headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """What it answers to a viewer's request, whatever that is; only what it says of the credentials, no viewer could understand.

        Args:
            path, query: below the service's address; body: of a POST.
        """
        # nothing in a path may lead out of the service, which requests would let dots do, also encoded ones
        if {".", ".."} & {*path.split("/")}:
            return Answer(404, "", b"")
        address = f"{self.url}/{quote(path, safe='/')}" + (f"?{query}" if query else "")
        with self._sentences("an answer to a viewer's request"):
            response = self._session.request(method, address, headers=dict(headers or {}), data=body)
            if response.status_code in (401, 403):
                response.raise_for_status()
            return Answer(response.status_code, response.headers.get("Content-Type", ""), response.content)

    @contextmanager
    def _sentences(self, wanted: str, is_of_image: bool = False) -> Iterator[None]:
        """Turn whatever goes wrong into one sentence; ``wanted`` is what the PACS was to answer, ``is_of_image``: of one that it listed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except PacsError:
            raise
        except requests.exceptions.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status == 404 and is_of_image:
                raise GoneError(f"The PACS {_GONE}.") from None
            raise PacsError(
                f"The PACS {_ACTIONS.get(status, f'answered {status} instead of {wanted}')}.", status in (401, 429, 503, 507)
            ) from None
        except requests.exceptions.SSLError:
            raise PacsError(
                "The PACS's certificate is not trusted: set REQUESTS_CA_BUNDLE to the certificate of its issuer.", True
            ) from None
        except (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError):
            raise PacsError(f"The PACS did not answer in time ({wanted}): try again later.", is_general=True) from None
        except (requests.exceptions.ConnectionError, urllib3.exceptions.HTTPError):  # their texts hold addresses and patients' UIDs
            raise PacsError(
                "The PACS cannot be reached, or closed the connection: check that it is running, and its address.", True
            ) from None
        except Exception as error:  # what nonsense leads the client and pydicom to
            raise PacsError(f"The PACS answered with something other than {wanted} ({type(error).__name__}).") from error


def _dataset(item: Any) -> Dataset:
    """From DICOM JSON; large values that stand elsewhere stay away, as does what is no value of its kind, such as a weight of "70,5"."""
    try:
        return Dataset.from_json(item, bulk_data_uri_handler=_ignore_bulk_data)
    except (ValueError, TypeError, OverflowError):
        found = Dataset()
        for tag, element in item.items():
            if element.get("vr") == "SQ":
                found.add_new(int(tag, 16), "SQ", [_dataset(part) for part in element.get("Value") or ()])
                continue
            with suppress(ValueError, TypeError, OverflowError):
                found.update(Dataset.from_json({tag: element}, bulk_data_uri_handler=_ignore_bulk_data))
        return found


def _ignore_bulk_data(tag: str, vr: str, uri: str) -> Any:
    return None
