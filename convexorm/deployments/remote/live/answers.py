"""Answers to reads that come again and again: documents whose text is as it was are not parsed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from convexorm.requests import Document, Read, ReadResult
from convexorm.values import loads_printed
from convexorm.wire import decode_reads

__all__ = ["Answers"]

_answer = msgspec.json.Decoder(dict[str, Raw]).decode
_results = msgspec.json.Decoder(list[dict[str, Raw]]).decode
_documents = msgspec.json.Decoder(list[Raw]).decode


class Answers:
    """The answers to one call, each of which knows the documents of the one before by their text."""

    def __init__(self) -> None:
        self._known: Mapping[bytes, Document] = {}

    def decode(self, text: bytes, reads: Sequence[Read]) -> list[ReadResult]:
        """The results in an answer. Raises DeploymentError for what is none."""
        if any(read.pack is not None for read in reads):  # its documents are taken apart
            return decode_reads(loads_printed(text), reads)
        found: dict[bytes, Any] = {}
        try:
            parts = _answer(text)
            results = [self._parsed(one, found) for one in _results(parts["results"])]
        except (msgspec.MsgspecError, KeyError, UnicodeError):
            return decode_reads(loads_printed(text), reads)  # which says what is wrong
        answer = {name: results if name == "results" else loads_printed(bytes(part)) for name, part in parts.items()}
        decoded = decode_reads(answer, reads)
        self._known = found
        return decoded

    def _parsed(self, result: Mapping[str, Raw], found: dict[bytes, Any]) -> dict[str, Any]:
        """A result, as JSON; the texts of its documents are `found` with them."""
        parsed: dict[str, Any] = {name: loads_printed(bytes(part)) for name, part in result.items() if name != "docs"}
        texts, known = list(map(bytes, _documents(result["docs"]))), self._known
        parsed["docs"] = docs = [known[text] if text in known else loads_printed(text) for text in texts]
        found.update(zip(texts, docs, strict=True))
        return parsed
