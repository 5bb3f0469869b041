"""The head of a module that is written: its docstring and its imports, in the order that formatters prefer."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["head_of"]

_STANDARD = ("builtins", "collections.abc", "typing")


def head_of(title: str, imports: Iterable[tuple[str, str]], *, future: bool = False) -> list[str]:
    """The lines. `imports` are modules with a name of each, or "" with a module."""
    found = set(imports)
    groups = [
        [pair for pair in found if (pair[0] or pair[1]) in _STANDARD],
        [pair for pair in found if (pair[0] or pair[1]) not in _STANDARD and not pair[0]],
        [pair for pair in found if (pair[0] or pair[1]) not in _STANDARD and pair[0]],
    ]
    head = [f'"""{title}"""', *(["", "from __future__ import annotations"] if future else [])]
    for group in groups:
        lines = _statements(group)
        head += ["", *lines] if lines else []
    return head


def _statements(imports: Iterable[tuple[str, str]]) -> list[str]:
    modules: dict[str, list[str]] = {}
    for module, name in imports:
        modules.setdefault(module, []).append(name)
    plain = [f"import {name}" for name in sorted(modules.pop("", []))]
    return plain + [
        f"from {module} import {', '.join(sorted(names, key=_sort_key))}" for module, names in sorted(modules.items())
    ]


def _sort_key(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)
