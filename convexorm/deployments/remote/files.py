"""Files on Convex: its own storage, through upload URLs and the functions of ours that make and look at them."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

import attrs
import msgspec

from convexorm.deployments.remote.port import RemotePort
from convexorm.deployments.remote.transfers import Body, Transfers
from convexorm.errors import ConvexORMError, DeploymentError
from convexorm.files import FileMetadata, Incoming, Outgoing
from convexorm.wire import DEPLOY, VERSION

__all__ = ["RemoteFiles"]

P = ParamSpec("P")
T = TypeVar("T")


@attrs.frozen
class RemoteFiles:
    """One face of the files of a deployment on Convex."""

    port: RemotePort
    transfers: Transfers

    async def work(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.transfers.work(call, *args, **kwargs)

    async def store(self, file: Outgoing) -> str:
        url = str((await self._mutate({"op": "upload"})).get("url"))
        headers = {} if file.content_type is None else {"content-type": file.content_type}
        if file.size is not None:
            headers["content-length"] = str(file.size)
        status, body = await self.transfers.post(url, aiter(file), headers)
        if not 200 <= status < 300:
            raise DeploymentError(f"the deployment refuses the upload, HTTP {status}")
        id_ = _stored_id(body)
        try:
            found = await self.describe(id_)
        except ConvexORMError:
            with suppress(ConvexORMError):  # it says nothing that the first one does not
                await self.delete(id_)
            raise
        if found is None or found[0].size != file.sent or found[0].sha256 != file.sha256:
            await self.delete(id_)
            raise DeploymentError("the deployment has stored other bytes than were sent; they are deleted again")
        return id_

    async def open(self, id: str) -> Incoming | None:
        found = await self.describe(id)
        if found is None:
            return None
        metadata, url = found
        status, body = await self.transfers.get(url)
        if status == 200:
            return _Remote(metadata, body)
        await body.close()
        if status == 404:  # deleted meanwhile
            return None
        raise DeploymentError(f"the deployment refuses the download, HTTP {status}")

    async def describe(self, id: str) -> tuple[FileMetadata, str] | None:
        file = _answer(await self.port.ask_ours("query", "file", {"id": id})).get("file")
        if file is None:
            return None
        return _metadata(file), str(file["url"])

    async def delete(self, id: str) -> bool:
        return bool((await self._mutate({"op": "delete", "id": id})).get("deleted"))

    async def _mutate(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        return _answer(await self.port.ask_ours("mutation", "store", arguments))


@attrs.define
class _Remote:
    metadata: FileMetadata
    body: Body

    async def read(self) -> bytes:
        return await self.body.read()

    async def close(self) -> None:
        await self.body.close()


def _answer(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict) or answer.get("version") != VERSION:
        raise DeploymentError(f"the deployment's answer is not of wire version {VERSION}; {DEPLOY}")
    return answer


def _stored_id(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=dict[str, str])["storageId"]
    except (msgspec.MsgspecError, KeyError):
        raise DeploymentError("the deployment's answer to the upload has no storageId") from None


def _metadata(file: Mapping[str, Any]) -> FileMetadata:
    content_type = file.get("contentType")
    try:
        return FileMetadata(
            id=str(file["_id"]),
            size=int(file["size"]),
            sha256=_hex(str(file["sha256"])),
            content_type=None if content_type is None else str(content_type),
            created=datetime.fromtimestamp(float(file["_creationTime"]) / 1_000, UTC),
        )
    except (KeyError, ValueError, TypeError):
        raise DeploymentError("what the deployment says of a file is not as Convex says it") from None


def _hex(digest: str) -> str:
    """A SHA-256 in hex, which Convex has in hex or base64."""
    return digest.lower() if len(digest) == 64 else b64decode(digest, validate=True).hex()
