"""Keeps the bodies of S3 objects as files, under moto's S3, which otherwise holds them in memory.

moto passes a body around as ``bytes``. Here a ``Body`` stands in for them: a file, of which moto only ever asks the
length and a slice. What a client sends is in its file, with its MD5, before moto hears of the call; what a client gets
is read from the file after moto has answered. moto still decides everything else about an object.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import itertools
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar

from botocore.httpchecksum import _CHECKSUM_CLS, Crc32Checksum, Sha256Checksum
from moto.moto_server.werkzeug_app import BackendRequest
from moto.s3 import models, responses
from moto.s3.models import FakeKey, FakeMultipart, MultipartChecksumBuilder
from werkzeug.exceptions import BadRequest
from werkzeug.wsgi import get_input_stream

from infra.local.neighbours import turns

BLOCK = 1 << 20
"""Bytes that are in memory at a time, for each body that moves."""

BODY = "infra.local.neighbours.storage.body"
"""Where a WSGI environment holds the body that has been received."""

FORMS = "infra.local.neighbours.storage.forms"
"""Where it lists the files that were uploaded by an HTML form, for what moto leaves of them."""

_SUBRESOURCES = ("acl", "legal-hold", "retention", "tagging")
"""What else a PUT on a key can be about; the body is then a few lines of XML."""

_CHUNKED = "STREAMING-"
"""How ``x-amz-content-sha256`` begins where the body comes in chunks with a trailer (``aws-chunked``)."""

_local = threading.local()


class Body(bytes):
    """A file, or a part of one, that stands where moto expects ``bytes``.

    The bytes proper are only the trailer that came with it, where moto looks for a checksum.
    """

    path: Path
    start: int
    stop: int
    md5: str | None

    def __new__(cls, path: Path, start: int, stop: int, md5: str | None = None, trailer: bytes = b"") -> Body:
        """Describe a file that exists; ``md5`` is known of what has just been received."""
        body = super().__new__(cls, trailer)
        body.path, body.start, body.stop, body.md5 = path, start, stop, md5
        return body

    def __len__(self) -> int:
        return self.stop - self.start

    def __bool__(self) -> bool:
        # moto replaces what is false by other bytes, and an empty object has a file too.
        return True

    def __getitem__(self, key: Any) -> Body:  # type: ignore[override]  # of slices only
        start, stop, _ = key.indices(len(self))
        return Body(self.path, self.start + start, self.start + max(start, stop))

    def stream(self) -> Iterator[bytes]:
        """Open the file now, so that nobody can delete it before it has been read, and read it in blocks."""
        handle = self.path.open("rb")
        handle.seek(self.start)
        return _blocks(handle, len(self))


def _blocks(handle: IO[bytes], size: int) -> Iterator[bytes]:
    with handle:
        while size > 0 and (block := handle.read(min(size, BLOCK))):
            size -= len(block)
            yield block


class _Incoming:
    """A file that is being written; the uploads of HTML forms are written to it by werkzeug."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{uuid.uuid4().hex}.incoming"
        self._file = self.path.open("xb")
        self._md5 = hashlib.md5(usedforsecurity=False)

    def write(self, block: bytes) -> int:
        self._md5.update(block)
        return self._file.write(block)

    def seek(self, *_: int) -> int:
        return 0

    def read(self, trailer: bytes = b"") -> Body:
        self._file.flush()
        return Body(self.path, 0, self._file.tell(), self._md5.hexdigest(), trailer)

    def close(self) -> None:
        self._file.close()


def receive(folder: Path, blocks: Iterable[bytes], trailer: list[bytes] | None = None) -> Body:
    """Write blocks to a file of a folder, whole or not at all; ``trailer`` may be filled while they come."""
    incoming = _Incoming(folder)
    try:
        for block in blocks:
            incoming.write(block)
        return incoming.read(b"".join(trailer or ()))
    except BaseException:
        incoming.path.unlink()
        raise
    finally:
        incoming.close()


def _decoded(stream: IO[bytes], trailer: list[bytes]) -> Iterator[bytes]:
    """Take the data out of chunks: a size in hexadecimal and perhaps a signature, CRLF, the data, CRLF; then 0.

    Source: Amazon S3 API reference, "Signature calculations: transferring a payload in multiple chunks".
    """
    while True:
        try:
            size = left = int(stream.readline().partition(b";")[0], 16)
        except ValueError as error:
            raise BadRequest("the chunks of the request body are broken") from error
        if not size:
            trailer.append(stream.read())
            return
        while left:
            if not (block := stream.read(min(left, BLOCK))):
                raise BadRequest("the request body ends in the middle of a chunk")
            left -= len(block)
            yield block
        stream.readline()


def _input(environ: dict[str, Any]) -> IO[bytes]:
    stream: Any = get_input_stream(environ)
    return io.BufferedReader(stream, BLOCK) if isinstance(stream, io.RawIOBase) else stream


def _may_carry_object(environ: dict[str, Any]) -> bool:
    names = {item.partition("=")[0] for item in environ["QUERY_STRING"].split("&")}
    return (
        environ["REQUEST_METHOD"] == "PUT"
        and "/" in environ["PATH_INFO"].strip("/")
        and names.isdisjoint(_SUBRESOURCES)
        and "HTTP_X_AMZ_COPY_SOURCE" not in environ
    )


@contextmanager
def received(environ: dict[str, Any], service: Callable[[dict[str, Any]], str]) -> Iterator[dict[str, Any]]:
    """Take in the whole body of a request, however slowly it comes, and yield an environment that has it at hand.

    ``service`` tells whose request a PUT is, without looking at its body. Raises ``BadRequest``.
    """
    stream = _input(environ)
    # The content type of an object does not say how to read the request.
    if not _may_carry_object(environ) or service({**environ, "CONTENT_TYPE": ""}) != "s3":
        forms: list[Path] = []
        with tempfile.SpooledTemporaryFile(BLOCK) as spool:
            for block in iter(lambda: stream.read(BLOCK), b""):
                spool.write(block)
            length = str(spool.tell())
            spool.seek(0)
            try:
                yield {**environ, "wsgi.input": spool, "CONTENT_LENGTH": length, FORMS: forms}
            finally:
                for path in forms:
                    path.unlink(missing_ok=True)
        return
    trailer: list[bytes] = []
    chunked = environ.get("HTTP_X_AMZ_CONTENT_SHA256", "").startswith(_CHUNKED)
    blocks = _decoded(stream, trailer) if chunked else iter(lambda: stream.read(BLOCK), b"")
    body = receive(StoredKey.folder, blocks, trailer)
    try:
        yield {**environ, "wsgi.input": io.BytesIO(), BODY: body}
    finally:
        # What moto took has another name by now.
        body.path.unlink(missing_ok=True)


class Request(BackendRequest):  # type: ignore[misc]  # moto ships no types
    """A request to moto whose object body, if it has one, is a file."""

    @property
    def want_form_data_parsed(self) -> bool:
        """Keep an object out of the form parser, whatever its content type."""
        return BODY not in self.environ and bool(super().want_form_data_parsed)

    def get_data(self, *arguments: Any, **options: Any) -> Any:
        """Return the body."""
        return self.environ.get(BODY) or super().get_data(*arguments, **options)

    def _get_file_stream(self, *_: Any, **__: Any) -> Any:
        incoming = _Incoming(StoredKey.folder)
        self.environ[FORMS].append(incoming.path)
        return incoming


@contextmanager
def _by_reference(wanted: bool = True) -> Iterator[None]:
    """Let ``value`` of a key be a ``Body`` in a block; everywhere else in moto it really is bytes."""
    before, _local.by_reference = _passes_references(), wanted
    try:
        yield
    finally:
        _local.by_reference = before


def _passes_references() -> bool:
    return bool(getattr(_local, "by_reference", False))


class StoredKey(FakeKey):  # type: ignore[misc]
    """A version of an object, or a part of an upload, with its body in a file of its own."""

    folder: ClassVar[Path]
    file: str | None = None
    """The body's name in the folder; ``None`` for the parts of an upload that is complete."""
    _etag: str | None
    # moto's buffer, for which nothing is left to do.
    _value_buffer = property(lambda _: None, lambda *_: None)

    @property
    def body(self) -> Body:
        """The file."""
        return Body(self.folder / str(self.file), 0, self.contentsize)

    @property
    def value(self) -> bytes:
        """The body, as whole bytes for those of moto's services that do not stream it."""
        return self.body if _passes_references() else b"".join(self.body.stream())

    @value.setter
    def value(self, new: bytes | str) -> None:
        body = new if isinstance(new, Body) and new.md5 else self._received(new)
        self.file, self.contentsize = uuid.uuid4().hex, len(body)
        self._etag = self._etag or body.md5
        body.path.rename(self.folder / self.file)

    def _received(self, new: bytes | str) -> Body:
        blocks = new.stream() if isinstance(new, Body) else [new.encode() if isinstance(new, str) else new]
        with turns.released():
            return receive(self.folder, blocks)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def dispose(self, garbage: bool = False) -> None:
        """Leave the file alone: it goes when what is saved of its object no longer names it."""


class _Checksum(MultipartChecksumBuilder):  # type: ignore[misc]
    """The checksum of an upload, from the files of its parts."""

    def __init__(self, algorithm: str | None, checksum_type: str | None) -> None:
        super().__init__(algorithm, checksum_type)
        self._running = _hasher(self.checksum_algorithm)

    def addPart(self, part: Body) -> None:
        if self.checksum_type == "COMPOSITE":
            super().addPart(part)
            return
        for block in part.stream():
            self._running.update(block)

    def build(self) -> Any:
        if self.checksum_type == "COMPOSITE":
            return super().build()
        return self.checksum_type, base64.b64encode(self._running.digest()).decode(), 1


class StoredMultipart(FakeMultipart):  # type: ignore[misc]
    """An upload that becomes an object by copying its parts from file to file."""

    def complete(self, body: Iterable[tuple[int, str]]) -> tuple[Body, str, Any]:
        """Check the parts against the list, and put them together."""
        listed = list(body)
        with _by_reference(), turns.released():
            _, etag, checksum = super().complete(iter(listed))
            parts = [self.parts[number] for number, _ in listed]
            whole = receive(StoredKey.folder, itertools.chain.from_iterable(part.body.stream() for part in parts))
        for part in self.parts.values():
            part.file = None
        return whole, etag, checksum


def _hasher(algorithm: str) -> Any:
    # As moto has it: CRC32 for what needs a library that is not there, SHA-256 for what it does not know.
    known = _CHECKSUM_CLS.get(algorithm.lower())
    return (known or (Crc32Checksum if algorithm.startswith("CRC") else Sha256Checksum))()


_stock_checksum = models.compute_checksum


def _compute_checksum(body: bytes, algorithm: str, encode_base64: bool = True) -> bytes:
    if not isinstance(body, Body):
        checksum: bytes = _stock_checksum(body, algorithm, encode_base64)
        return checksum
    running = _hasher(algorithm)
    for block in body.stream():
        running.update(block)
    digest: bytes = running.digest()
    return binascii.b2a_base64(digest, newline=False) if encode_base64 else digest


_stock_copy = models.S3Backend.copy_object


def _copy_object(backend: Any, src_key: StoredKey, dest_bucket_name: str, dest_key_name: str, **options: Any) -> None:
    """Copy, and give the copy of what came in parts the checksum of the whole; moto leaves it one that is wrong."""
    _stock_copy(backend, src_key, dest_bucket_name, dest_key_name, **options)
    if src_key.checksum_type == "COMPOSITE" and src_key.checksum_algorithm:
        copied = backend.get_object(dest_bucket_name, dest_key_name)
        copied.checksum_type = "FULL_OBJECT"
        copied.checksum_value = _compute_checksum(copied.body, src_key.checksum_algorithm).decode()


def install(folder: Path) -> None:
    """Make moto's S3 of this process keep its bodies in a folder."""
    folder.mkdir(exist_ok=True)
    StoredKey.folder = folder
    models.FakeKey, models.FakeMultipart, models.MultipartChecksumBuilder = StoredKey, StoredMultipart, _Checksum
    models.compute_checksum = responses.compute_checksum = _compute_checksum
    models.S3Backend.copy_object = _copy_object
    stock = responses.S3Response

    def unless_received(method: Any) -> Any:
        return lambda response, body, *rest: body if isinstance(body, Body) else method(response, body, *rest)

    stock._handle_encoded_body = unless_received(stock._handle_encoded_body)
    stock._handle_v4_chunk_signatures = unless_received(stock._handle_v4_chunk_signatures)
    stock_key_response = stock.key_response

    def key_response(response: Any, request: Any, *rest: Any) -> Any:
        with _by_reference("select" not in request.args):
            status, headers, content = stock_key_response(response, request, *rest)
        return status, headers, content.stream() if isinstance(content, Body) else content

    stock.key_response = key_response
