"""Where the standard library is, and what the declarations of a file are called after. Reads no file."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from tdsl.errors import Span, TdslError

SUFFIX = ".tdsl"


def library_path() -> Path:
    """The folder of the standard library, `tdsl.passes`."""
    return Path(str(resources.files("tdsl.passes")))


def standard_files() -> Iterator[tuple[str, Path]]:
    """The `.tdsl` files that come with tdsl: dotted prefix (`cleanup.identity`) and path, in name order."""
    root = library_path()
    for path in sorted(root.rglob(f"*{SUFFIX}")):
        yield ".".join(path.relative_to(root).with_suffix("").parts), path


def prefix_of(path: Path) -> str:
    """What the declarations of a file are called after: its place in the standard library, or its name."""
    known = {file.resolve(): prefix for prefix, file in standard_files()}
    return known.get(path.resolve(), path.stem)


def full_name(prefix: str, name: str) -> str:
    """`cleanup.identity.relu` for `relu`; a declaration called like its file has the file's name alone."""
    return prefix if prefix.rpartition(".")[2] == name else f"{prefix}.{name}"


def declared_twice(name: str, span: Span) -> TdslError:
    """The error for a second declaration of a full name, at its place."""
    return TdslError(f"{name} is declared twice", span, hint="give one of them another name")
