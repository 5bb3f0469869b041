"""Files of an embedded deployment: a folder beside the SQLite file, whose table `_storage` says which there are.

A file is written under a name of its own, is on the disk before it gets the name that is its id, and gets that within the
transaction that enters it. So there is no id without its bytes; bytes without an id, which a kill may leave, are removed by
whoever uploads next. In memory the bytes are in memory.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfileobj
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from urllib.parse import quote
from uuid import uuid4

import attrs

from convexorm.deployments.embedded.descriptors import Descriptor
from convexorm.errors import DeploymentError
from convexorm.files import PIECE, FileMetadata, Incoming, Outgoing
from convexorm.requests import Applied, Delete, Document, Insert, Range, Read, Written
from convexorm.schema import STORAGE
from convexorm.values import Value

if TYPE_CHECKING:
    from convexorm.deployments.embedded.engine import Engine

__all__ = ["EmbeddedFiles", "Folder", "Memory", "folder_of"]

_PARTIAL = ".partial-"


def folder_of(path: Path) -> Path:
    """Where the files of a SQLite file lie."""
    return path.with_name(f"{path.name}-files")


class Place(Protocol):
    """Where bytes lie."""

    def begin(self) -> Writing:
        """A new file, empty."""

    def open(self, id: str) -> BinaryIO:
        """A stored file. Raises OSError."""

    def remove(self, id: str) -> None:
        """Forget the bytes of a file that has no id any more."""

    def url(self, id: str, content_type: str | None) -> str:
        """Where the bytes can be got."""

    def copy(self, id: str, folder: str) -> None:
        """Put a copy of a file, which is on the disk then, into a folder. Raises FileNotFoundError if it is not there."""
        os.makedirs(folder, exist_ok=True)
        with self.open(id) as file, open(os.path.join(folder, id), "xb") as copied:
            copyfileobj(file, copied, PIECE)
            copied.flush()
            os.fsync(copied.fileno())

    def sweep(self, engine: Engine) -> None:
        """Remove what is no file's, left behind by somebody who was killed."""


class Writing(Protocol):
    """A file that is being written."""

    def write(self, data: bytes) -> object: ...

    def finish(self) -> None:
        """All is written."""

    def name(self, id: str) -> None:
        """It is this file from now on."""

    def unname(self) -> None:
        """It is none, after all."""

    def close(self) -> None:
        """Forget it, unless it has its name."""


@attrs.frozen
class EmbeddedFiles:
    """One face of the files of an embedded deployment; `run` waits for the disk as that face waits."""

    engine: Engine
    place: Place
    run: Callable[..., Awaitable[Any]]

    async def work(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self.run(call, *args, **kwargs)

    async def store(self, file: Outgoing) -> str:
        self.engine.check_writable()
        await self.run(self.place.sweep, self.engine)
        writing = await self.run(self.place.begin)
        try:
            async for piece in file:
                await self.run(writing.write, piece)
            await self.run(writing.finish)
            return str(await self.run(self._enter, writing, file))
        except OSError as error:
            raise DeploymentError(f"the file cannot be stored: {error.strerror or 'the disk failed'}") from error
        finally:
            writing.close()

    def _enter(self, writing: Writing, file: Outgoing) -> str:
        fields: dict[str, Value] = {"sha256": file.sha256, "size": float(file.sent)}
        if file.content_type is not None:
            fields["contentType"] = file.content_type

        def named(applied: Sequence[Applied]) -> None:
            (entered,) = applied
            assert isinstance(entered, Written)
            writing.name(entered.id)

        (entered,) = self.engine.amend([Insert(STORAGE, fields)], landing=named, failing=writing.unname)
        assert isinstance(entered, Written)
        return entered.id

    async def open(self, id: str) -> Incoming | None:
        found: Incoming | None = await self.run(self._open, id)
        return found

    def _open(self, id: str) -> Incoming | None:
        found = self._found(id)
        if found is None:
            return None
        try:
            return _Stored(_metadata(found), self.place.open(id), self.run)
        except FileNotFoundError:
            if self._found(id) is None:  # deleted meanwhile
                return None
            raise DeploymentError("a stored file is not in its folder any more") from None
        except OSError as error:
            raise DeploymentError(f"a stored file cannot be read: {error.strerror}") from error

    async def describe(self, id: str) -> tuple[FileMetadata, str] | None:
        found = await self.run(self._found, id)
        if found is None:
            return None
        metadata = _metadata(found)
        return metadata, await self.run(self.place.url, id, metadata.content_type)

    async def delete(self, id: str) -> bool:
        self.engine.check_writable()
        there: bool = await self.run(self._delete, id)
        return there

    def _delete(self, id: str) -> bool:
        (there,) = self.engine.amend([Delete(STORAGE, id, missing="skip")])
        if there:
            self.place.remove(id)
        return bool(there)

    def _found(self, id: str) -> Document | None:
        (result,) = self.engine.read([Read(Range(STORAGE, "by_id", (id,)), limit=1)])
        return next(iter(result.docs), None)


def _metadata(document: Document) -> FileMetadata:
    content_type = document.get("contentType")
    created = datetime.fromtimestamp(float(document["_creationTime"]) / 1_000, UTC)
    return FileMetadata(
        id=str(document["_id"]),
        size=int(document["size"]),
        sha256=str(document["sha256"]),
        content_type=None if content_type is None else str(content_type),
        created=created,
    )


@attrs.define
class _Stored:
    metadata: FileMetadata
    file: BinaryIO
    run: Callable[..., Awaitable[Any]]

    async def read(self) -> bytes:
        try:
            piece: bytes = await self.run(self.file.read, PIECE)
        except OSError as error:
            raise DeploymentError(f"a stored file cannot be read: {error.strerror}") from error
        return piece

    async def close(self) -> None:
        self.file.close()


# -- in memory -----------------------------------------------------------------------------------------------------


class Memory(Place):
    """Bytes in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def begin(self) -> _MemoryWriting:
        return _MemoryWriting(self.files)

    def open(self, id: str) -> BinaryIO:
        from io import BytesIO

        try:
            return BytesIO(self.files[id])
        except KeyError:
            raise FileNotFoundError from None

    def remove(self, id: str) -> None:
        self.files.pop(id, None)

    def url(self, id: str, content_type: str | None) -> str:
        data = base64.b64encode(self.files.get(id, b"")).decode()
        return f"data:{content_type or 'application/octet-stream'};base64,{data}"

    def sweep(self, engine: Engine) -> None:
        pass


class _MemoryWriting:
    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files
        self._pieces: list[bytes] = []
        self._id = ""

    def write(self, data: bytes) -> None:
        self._pieces.append(data)

    def finish(self) -> None:
        self._pieces = [b"".join(self._pieces)]

    def name(self, id: str) -> None:
        self._id = id
        self._files[id] = self._pieces[0]

    def unname(self) -> None:
        self._files.pop(self._id, None)

    def close(self) -> None:
        self._pieces = []


# -- in a folder ---------------------------------------------------------------------------------------------------


class Folder(Place):
    """Bytes in a folder, a file each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._swept = False

    def begin(self) -> _FolderWriting:
        try:
            self.path.mkdir(exist_ok=True)
            return _FolderWriting(self.path)
        except OSError as error:
            raise DeploymentError(f"the folder of files cannot be written: {error.strerror}") from error

    def open(self, id: str) -> BinaryIO:
        return (self.path / id).open("rb")

    def remove(self, id: str) -> None:
        with suppress(OSError):
            (self.path / id).unlink()

    def url(self, id: str, content_type: str | None) -> str:
        return f"file://{quote(str(self.path.absolute() / id))}"

    def sweep(self, engine: Engine) -> None:
        """Once for each process: what was left is from before."""
        if self._swept or not self.path.is_dir():
            self._swept = True
            return
        engine.alone(self._sweep)
        self._swept = True

    def _sweep(self, there: Callable[[Sequence[str]], set[str]]) -> None:
        """While nobody can give a file its name: of what lies here, keep those that are entered or being written."""
        names = [entry.name for entry in os.scandir(self.path)]
        files = [name for name in names if not name.startswith(".")]
        kept = there(files)
        for name in files:
            if name not in kept:
                self.remove(name)
        for name in names:
            if name.startswith(_PARTIAL):
                _remove_if_left(self.path / name)


def _remove_if_left(path: Path) -> None:
    """Remove a file that was being written by somebody who is not there any more."""
    import fcntl

    with suppress(OSError), path.open("rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


class _FolderWriting:
    """Locked as long as it is written, so that others see that it is."""

    def __init__(self, folder: Path) -> None:
        import fcntl

        self._folder = folder
        self._name: str | None = None
        while True:
            path = str(folder / f"{_PARTIAL}{uuid4().hex}")
            self._file: Descriptor | None = Descriptor(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if os.fstat(self._file.fileno()).st_nlink:  # else it was taken for left behind before it was locked
                break
            self._file.close()
        self._path = path

    def write(self, data: bytes) -> None:
        assert self._file is not None
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file.fileno(), rest) :]

    def finish(self) -> None:
        assert self._file is not None
        os.fsync(self._file)

    def name(self, id: str) -> None:
        self._name = str(self._folder / id)
        os.rename(self._path, self._name)
        _sync_folder(self._folder)

    def unname(self) -> None:
        if self._name is not None:
            with suppress(OSError):
                os.rename(self._name, self._path)
            self._name = None

    def close(self) -> None:
        if self._file is None:
            return
        if self._name is None:
            with suppress(OSError):
                os.unlink(self._path)
        self._file.close()
        self._file = None


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    with Descriptor(folder, os.O_RDONLY) as opened:
        os.fsync(opened)
