"""Imports between `.tdsl` files: found beside the importing file or in the standard library, read once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tdsl.errors import Span, TdslError
from tdsl.lang import tree
from tdsl.lang.library_files import SUFFIX, library_path
from tdsl.lang.syntax import parse_file
from tdsl.spelling import asking_for, nearest


def load_files(
    paths: Sequence[str | os.PathLike[str]], search_path: Sequence[str | os.PathLike[str]] = ()
) -> tuple[tree.File, ...]:
    """The files at `paths` and all they import, each once, what is imported before what imports it.

    `import "blocks.tdsl"` is looked up beside the importing file, then in `search_path`; it may not leave
    the folder it is found in. `import cleanup.identity` is `cleanup/identity.tdsl` in `search_path`, then
    in the standard library. Raises `TdslError`; a cycle is reported with its chain.
    """
    loader = _Loader([Path(p) for p in search_path])
    for path in paths:
        loader.load(Path(path), None)
    return tuple(loader.files.values())


class _Loader:
    def __init__(self, search_path: list[Path]) -> None:
        self.search_path = search_path
        self.files: dict[Path, tree.File] = {}
        self.chain: list[Path] = []

    def load(self, path: Path, span: Span | None) -> None:
        real = path.resolve()
        if real in self.files:
            return
        if real in self.chain:
            circle = [*self.chain[self.chain.index(real) :], real]
            raise TdslError(
                f"these files import each other in a circle: {' → '.join(p.name for p in circle)}", span
            )
        file = parse_file(path)
        self.chain.append(real)
        for item in file.items:
            if isinstance(item, tree.Import):
                self.load(find_import(item, path.parent, self.search_path), item.span)
        self.chain.pop()
        self.files[real] = file


def find_import(item: tree.Import, beside: Path, search_path: Sequence[Path] = ()) -> Path:
    """The file that `item`, written in a file of the folder `beside`, means. Raises `TdslError`."""
    if item.library:
        roots = [*search_path, library_path()]
        relative = Path(*item.path.split(".")).with_suffix(SUFFIX)
    else:
        roots = [beside, *search_path]
        relative = Path(item.path)
        if "\0" in item.path or not item.path.endswith(SUFFIX):
            raise TdslError("only `.tdsl` files are imported", item.span, expected=f'`import "name{SUFFIX}"`')
        if relative.is_absolute() or ".." in relative.parts or "\\" in item.path:
            raise TdslError(
                "an import does not leave its folder",
                item.span,
                expected="a path below the importing file's folder, without `..`",
            )
    for root in roots:
        found = root / relative
        if found.is_file():
            if not found.resolve().is_relative_to(root.resolve()):
                raise TdslError(f"{found} is a link out of {root}", item.span)
            return found
    raise TdslError(
        f"nothing to import: there is no {relative.as_posix()}",
        item.span,
        expected=f"a file in {' or '.join(str(r) or '.' for r in roots)}",
        hint=_nearest(item.path, importable(item.library, roots)),
    )


def _nearest(path: str, names: Sequence[str]) -> str | None:
    """A hint with the nearest name; what all names end with says nothing."""
    stems = {name.removesuffix(SUFFIX): name for name in names}
    found = nearest(path.removesuffix(SUFFIX), stems)
    return asking_for(stems[found]) if found else None


def importable(library: bool, roots: Sequence[Path]) -> list[str]:
    """What could be imported from `roots`: dotted names of a library, or the files of a folder."""
    names: list[str] = []
    for root in roots:
        for path in sorted(root.rglob(f"*{SUFFIX}") if library else root.glob(f"*{SUFFIX}")):
            relative = path.relative_to(root)
            names.append(".".join(relative.with_suffix("").parts) if library else relative.as_posix())
    return names
