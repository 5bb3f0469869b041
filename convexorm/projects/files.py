"""Files in somebody's project: ours are known by their first line, all others are theirs and stay as they are.

A file of ours begins with a comment that says what wrote it and has a digest of the rest, so that one that was edited since
is known as well. Everything is looked at before the first file is written, and each is replaced whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal

from convexorm.errors import InvalidRequestError

__all__ = ["body_of", "read_file", "stamped", "whose", "write_files"]

_STAMP = re.compile(
    r"(?://|#) (?:Generated|Copied) by `python -m convexorm \w+`[^\n]*?(?: \[(?P<digest>[0-9a-f]{16})\])?\n"
)


def stamped(says: str, body: str, *, comment: str = "//") -> str:
    """A file's text: a first line, a comment that `says` what wrote it, with the digest of the body, and the body."""
    return f"{comment} {says} [{_digest(body)}]\n{body}"


def body_of(text: str) -> str | None:
    """What stands behind the first line of a file of ours; None for a file that is not ours."""
    stamp = _STAMP.match(text)
    return None if stamp is None else text[stamp.end() :]


def read_file(path: Path) -> str | None:
    """The text of a file, None if there is none. Raises InvalidRequestError for what is no file, or holds no text."""
    if not _is_file(path):
        return None
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{path} holds no text in UTF-8; name another file") from None


def write_files(folder: Path, files: Mapping[str, str], *, force: bool = False) -> list[Path]:
    """Write stamped texts below a folder, by their paths there; the paths of those that are new or have changed.

    The folder is made if it is missing and its parent is not. Raises InvalidRequestError, before anything is written, for a
    file that is not ours, for one of ours that was edited (both are overwritten with `force`), and for a folder whose
    parent does not exist.
    """
    _require_folder(folder)
    texts = {folder / name: text for name, text in files.items()}
    for path in texts:
        for parent in path.parents[: len(path.parts) - len(folder.parts) - 1]:
            if (parent.exists() or parent.is_symlink()) and not parent.is_dir():
                raise InvalidRequestError(f"{parent} is no folder; nothing was written")
        _is_file(path)
    if not force:
        refused = [problem for path in texts if (problem := _foreign(path)) is not None]
        if refused:
            raise InvalidRequestError("nothing was written. " + "; ".join(refused))
    changed = [path for path, text in texts.items() if not path.exists() or path.read_bytes() != text.encode()]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(_real(path), texts[path])
    return changed


def _is_file(path: Path) -> bool:
    """Whether there is such a file. Raises InvalidRequestError for what is there and is none, a device or a pipe even."""
    if "\0" in str(path):
        raise InvalidRequestError("a path holds no NUL")
    if path.is_dir():
        raise InvalidRequestError(f"{path} is a folder; name a file")
    if path.exists():
        if not path.is_file():
            raise InvalidRequestError(f"{path} is no file that can be replaced; name another")
        return True
    if path.is_symlink() and not _real(path).parent.is_dir():
        raise InvalidRequestError(f"{path} is a link that leads nowhere; name another file")
    return False


def _real(path: Path) -> Path:
    """Where a path leads. Raises InvalidRequestError for links that lead in a circle."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError):  # which of the two depends on the version of Python
        real = path
    if real.is_symlink():
        raise InvalidRequestError(f"{path} is a link that leads in a circle; name another file")
    return real


def _require_folder(folder: Path) -> None:
    """Raise unless the folder is there, or its parent is."""
    if "\0" in str(folder):
        raise InvalidRequestError("a path holds no NUL")
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise InvalidRequestError(f"{folder} is a file; name a folder")
    if not folder.exists() and not folder.parent.is_dir():
        raise InvalidRequestError(f"there is no folder {folder.parent}; make it first, or name another")


def _foreign(path: Path) -> str | None:
    """Why a file may not be overwritten; None if it may."""
    match whose(path):
        case "theirs":
            return f"{path} was not written by this command: move it away, write elsewhere, or overwrite it with --force"
        case "edited":
            return f"{path} was edited since it was written: keep your changes elsewhere, or overwrite them with --force"
    return None


def whose(path: Path) -> Literal["nobody's", "ours", "edited", "theirs"]:
    """Whose file a path is: nobody's if there is none, ours as it was written or edited since, or somebody else's."""
    if not path.exists():
        return "nobody's"
    text = path.read_bytes().decode("utf-8", "replace").replace("\r\n", "\n")
    stamp = _STAMP.match(text)
    if stamp is None:
        return "theirs"
    return "ours" if stamp["digest"] in (None, _digest(text[stamp.end() :])) else "edited"


def _digest(body: str) -> str:
    return sha256(body.encode()).hexdigest()[:16]


def _replace(path: Path, text: str) -> None:
    """Put a text in place of a file, so that whoever looks sees the old one or the new one whole."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    with NamedTemporaryFile(dir=path.parent, prefix=".convexorm-", delete=False) as file:
        try:
            file.write(text.encode())
            file.close()
            os.chmod(file.name, mode)
            os.replace(file.name, path)
        except BaseException:
            file.close()
            Path(file.name).unlink(missing_ok=True)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
