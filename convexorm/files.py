"""`AsyncFiles` and `Files`: a deployment's file storage, Convex's own on Convex, a folder beside a SQLite file.

A file is stored whole or not at all, known by an id, and never changed. What goes in and out goes in pieces, whatever its
size, and is checked by its SHA-256.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, overload
from uuid import uuid4

import attrs

from convexorm.errors import DeploymentError, InvalidRequestError, NoResultFound, ValidationError
from convexorm.faces import blocking, named
from convexorm.given import a_callback

if TYPE_CHECKING:
    from convexorm.mapping.references import Id

__all__ = ["AsyncFiles", "FileMetadata", "FilePort", "Files", "Incoming", "Outgoing", "Source"]

P = ParamSpec("P")
T = TypeVar("T")

PIECE = 1 << 18
"""Bytes that are read, sent and written at a time."""
MAX_CONTENT_TYPE = 255
"""Characters of a content type."""

StorageId: TypeAlias = "Id[Literal['_storage']]"
Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Iterable[bytes] | AsyncIterable[bytes] | Any"
"""What can be uploaded: a path, bytes, something with `read(size)`, or pieces."""
Progress: TypeAlias = "Callable[[int, int | None], object]"
"""Told how many bytes have gone, and how many there are, where that is known."""


@attrs.frozen
class FileMetadata:
    """What is known of a stored file. `sha256` is lower-case hex."""

    id: str
    size: int
    sha256: str
    content_type: str | None
    created: datetime | None = None


class Outgoing:
    """A file on its way to where it is stored: pieces, gone through once, counted and digested as they go."""

    def __init__(
        self, pieces: AsyncIterator[bytes], size: int | None, content_type: str | None, told: Progress | None
    ) -> None:
        self.size = size
        """Bytes, where that is known before."""
        self.content_type = content_type
        self.sent = 0
        self._pieces = pieces
        self._told = told
        self._digest = sha256()

    @property
    def sha256(self) -> str:
        """Of what has gone so far."""
        return self._digest.hexdigest()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._pieces:
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise InvalidRequestError(f"a stream of bytes is needed, one of its pieces is {type(piece).__name__}")
            data = bytes(piece)
            for start in range(0, len(data), PIECE):
                part = data[start : start + PIECE]
                self.sent += len(part)
                if self.size is not None and self.sent > self.size:
                    raise InvalidRequestError("what was to be uploaded grew meanwhile; nothing is stored")
                self._digest.update(part)
                yield part
                if self._told is not None:
                    self._told(self.sent, self.size)
        if self.size is not None and self.sent != self.size:
            raise InvalidRequestError("what was to be uploaded shrank meanwhile; nothing is stored")


class Incoming(Protocol):
    """A stored file on its way here."""

    metadata: FileMetadata

    async def read(self) -> bytes:
        """The next piece; empty at the end. Raises DeploymentError."""
        ...

    async def close(self) -> None:
        """No more of it is wanted."""
        ...


class FilePort(Protocol):
    """One face of where files are stored. Raises the errors of `convexorm.errors`, and what an outgoing file raises."""

    async def store(self, file: Outgoing) -> str:
        """Store a file whole, and answer its id; or nothing of it."""
        ...

    async def open(self, id: str) -> Incoming | None:
        """A stored file; None if there is none."""
        ...

    async def describe(self, id: str) -> tuple[FileMetadata, str] | None:
        """What is known of a file, and where anybody can get it; None if there is none."""
        ...

    async def delete(self, id: str) -> bool:
        """Delete a file; whether there was one."""
        ...

    async def work(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a call that reads or writes on disk answers, waited for as this face waits."""
        ...


class AsyncFiles:
    """The files of a deployment, awaited: `deployment.async_files`. `Files` is the same, blocking."""

    def __init__(self, port: FilePort, *, awaits: bool = True) -> None:
        self._port = port
        self._awaits = awaits

    async def upload(
        self, source: Source, content_type: str | None = None, *, on_progress: Progress | None = None
    ) -> StorageId:
        """Store a file, and answer its id: that of a path, bytes, something with `read(size)`, or pieces of bytes.

        It is stored whole and checked, or not at all: what is broken off, or raises midway, leaves nothing.
        `on_progress(sent, total)` is called after each piece, in bytes; `total` is None for a stream.

        Raises InvalidRequestError for what cannot be uploaded, DeploymentError, OSError for a path that cannot be read, and
        what the stream or `on_progress` raises.
        """
        if on_progress is not None:
            a_callback(on_progress, "on_progress")
        _check_content_type(content_type)
        reading = _Reading(self._port, source, awaits=self._awaits)
        pieces = await reading.begin()
        try:
            return await self._port.store(Outgoing(pieces, reading.size, content_type, on_progress))
        finally:
            await reading.end(pieces)

    @overload
    async def download(self, id: str, *, to: None = None, on_progress: Progress | None = None) -> bytes: ...
    @overload
    async def download(self, id: str, *, to: str | os.PathLike[str], on_progress: Progress | None = None) -> None: ...
    async def download(
        self, id: str, *, to: str | os.PathLike[str] | None = None, on_progress: Progress | None = None
    ) -> bytes | None:
        """The bytes of a stored file; or None, when they were written to the path `to`, in pieces.

        The file at the path is complete, with what was there replaced, or as it was before. Raises NoResultFound if there
        is no file of this id, DeploymentError also for one that arrives damaged or cut, OSError where `to` cannot be
        written, and what `on_progress(received, total)` raises.
        """
        if on_progress is not None:
            a_callback(on_progress, "on_progress")
        incoming = await self._port.open(_id(id))
        if incoming is None:
            raise _missing()
        try:
            if to is None:
                pieces: list[bytes] = []
                await _receive(incoming, pieces.append, None, on_progress)
                return b"".join(pieces)
            await self._save(incoming, os.fspath(to), on_progress)
            return None
        finally:
            await incoming.close()

    async def _save(self, incoming: Incoming, path: str, on_progress: Progress | None) -> None:
        """Have the file at a path, once it is complete and on the disk."""
        work = self._port.work
        partial = f"{path}.{uuid4().hex[:8]}.partial"
        file = await work(open, partial, "xb")
        try:
            try:
                await _receive(incoming, file.write, work, on_progress)
                await work(_flush, file)
            finally:
                file.close()
            await work(os.replace, partial, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(partial)
            raise

    async def url(self, id: str) -> str:
        """Where anybody can get a stored file: on Convex over HTTP, embedded the path of a file, or its data in memory.

        Raises NoResultFound if there is no file of this id.
        """
        return (await self._described(id))[1]

    async def metadata(self, id: str) -> FileMetadata:
        """The size, SHA-256 and content type of a stored file. Raises NoResultFound if there is no file of this id."""
        return (await self._described(id))[0]

    async def _described(self, id: str) -> tuple[FileMetadata, str]:
        found = await self._port.describe(_id(id))
        if found is None:
            raise _missing()
        return found

    async def delete(self, id: str) -> None:
        """Delete a stored file. Raises NoResultFound if there is no file of this id."""
        if not await self._port.delete(_id(id)):
            raise _missing()


named(AsyncFiles, "Files")


class Files:
    """The files of a deployment: `deployment.files`. `AsyncFiles` is the same, awaited."""

    def __init__(self, port: FilePort) -> None:
        self._core = AsyncFiles(port, awaits=False)

    @property
    def coroutines(self) -> AsyncFiles:
        """The same as coroutines that never suspend, for what is written once for both faces."""
        return self._core

    upload = blocking(AsyncFiles.upload)
    url = blocking(AsyncFiles.url)
    metadata = blocking(AsyncFiles.metadata)
    delete = blocking(AsyncFiles.delete)

    if TYPE_CHECKING:

        @overload
        def download(self, id: str, *, to: None = None, on_progress: Progress | None = None) -> bytes: ...
        @overload
        def download(self, id: str, *, to: str | os.PathLike[str], on_progress: Progress | None = None) -> None: ...
        def download(
            self, id: str, *, to: str | os.PathLike[str] | None = None, on_progress: Progress | None = None
        ) -> bytes | None: ...

    else:
        download = blocking(AsyncFiles.download)


class _Reading:
    """What is uploaded, read in pieces."""

    def __init__(self, port: FilePort, source: Any, *, awaits: bool) -> None:
        self._port = port
        self._source = source
        self._awaits = awaits
        self._own: Any = None
        """The file of a path, which is closed when it is read."""
        self.size: int | None = None

    async def begin(self) -> AsyncIterator[bytes]:
        source = self._source
        if isinstance(source, bytes | bytearray | memoryview):
            data = bytes(source)
            self.size = len(data)
            return self._pieces([data] if data else [])
        if isinstance(source, str | os.PathLike):
            self._own = await self._port.work(open, source, "rb")
            self.size = (await self._port.work(os.fstat, self._own.fileno())).st_size
            return self._read(self._own.read, on_disk=True)
        if isinstance(source, type):
            raise InvalidRequestError(f"a file is a path, bytes or a stream, got the class {source.__name__}")
        if callable(getattr(source, "read", None)):
            return self._read(source.read, on_disk=not _is_awaited(source.read))
        if hasattr(source, "__aiter__"):
            if not self._awaits:
                raise InvalidRequestError("a stream that is awaited is for deployment.async_files")
            return self._awaited_pieces(source)
        if hasattr(source, "__iter__") and not isinstance(source, dict):
            return self._pieces(source)
        raise InvalidRequestError(f"a file is a path, bytes or a stream, got {type(source).__name__}")

    async def end(self, pieces: AsyncIterator[bytes]) -> None:
        with suppress(RuntimeError):  # whoever cancels may have left it in the midst of a piece
            await pieces.aclose()  # type: ignore[attr-defined]
        if self._own is not None:
            self._own.close()

    async def _read(self, read: Callable[[int], Any], *, on_disk: bool) -> AsyncIterator[bytes]:
        while True:
            piece = await self._port.work(read, PIECE) if on_disk else read(PIECE)
            if isawaitable(piece):
                if not self._awaits:
                    raise InvalidRequestError("a stream that is awaited is for deployment.async_files")
                piece = await piece
            if isinstance(piece, str):
                raise InvalidRequestError("a stream of bytes is needed, this one is of text: open it with mode 'rb'")
            if not piece:
                return
            yield piece

    async def _pieces(self, source: Iterable[bytes]) -> AsyncIterator[bytes]:
        for piece in source:
            yield piece

    async def _awaited_pieces(self, source: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for piece in source:
            yield piece


def _is_awaited(read: object) -> bool:
    from inspect import iscoroutinefunction

    return iscoroutinefunction(read)


async def _receive(
    incoming: Incoming,
    keep: Callable[[bytes], object],
    work: Callable[..., Awaitable[Any]] | None,
    on_progress: Progress | None,
) -> None:
    """Keep all pieces of a file. Raises DeploymentError unless they are those that were stored."""
    digest, size = sha256(), 0
    while piece := await incoming.read():
        digest.update(piece)
        size += len(piece)
        if work is None:
            keep(piece)
        else:
            await work(keep, piece)
        if on_progress is not None:
            on_progress(size, incoming.metadata.size)
    if size != incoming.metadata.size or digest.hexdigest() != incoming.metadata.sha256:
        raise DeploymentError("the file arrived damaged or cut: its size or SHA-256 is not what was stored")


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _check_content_type(content_type: object) -> None:
    if content_type is None:
        return
    if not isinstance(content_type, str):
        raise InvalidRequestError(f"a content type is a string, got {type(content_type).__name__}")
    if not content_type.isascii() or not content_type.isprintable() or not 0 < len(content_type) <= MAX_CONTENT_TYPE:
        raise ValidationError("a content type is printable ASCII, such as image/png", table="_storage", field="contentType")
    if content_type.strip() != content_type:
        raise ValidationError("a content type has no white space around it", table="_storage", field="contentType")


def _id(given: object) -> str:
    if not isinstance(given, str):
        raise InvalidRequestError(f"a file is known by its id, a string, got {type(given).__name__}")
    return given


def _missing() -> NoResultFound:
    return NoResultFound("there is no stored file of this id")
