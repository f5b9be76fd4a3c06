"""Imports: found beside the file or in the library, read once, never outside the import path."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdsl.errors import TdslError
from tdsl.lang.imports import load_files
from tdsl.lang.library_files import library_path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.tdsl").write_text(text, encoding="utf-8")


def names(files: tuple) -> list[str]:
    return [Path(f.span.source.name).stem for f in files]


def test_a_diamond_loads_each_file_once_and_what_is_needed_first(project: Path) -> None:
    write(
        project,
        top='import "left.tdsl"\nimport "right.tdsl"',
        left='import "base.tdsl"',
        right='import "base.tdsl"',
        base="rule r { relu(x) => x }",
    )
    assert names(load_files([project / "top.tdsl", project / "base.tdsl"])) == [
        "base",
        "left",
        "right",
        "top",
    ]


def test_a_circle_is_reported_with_its_chain(project: Path) -> None:
    write(project, a='import "b.tdsl"', b='import "c.tdsl"', c='\nimport "b.tdsl"')
    with pytest.raises(TdslError, match=r"circle: b\.tdsl → c\.tdsl → b\.tdsl") as caught:
        load_files([project / "a.tdsl"])
    assert caught.value.span is not None and caught.value.span.line == 2


def test_the_search_path_comes_after_the_importing_files_folder(project: Path, tmp_path: Path) -> None:
    write(tmp_path, blocks="rule far { relu(x) => x }", other="rule other { relu(x) => x }")
    write(project, top='import "blocks.tdsl"\nimport "other.tdsl"', blocks="rule near { relu(x) => x }")
    loaded = load_files([project / "top.tdsl"], [tmp_path])
    assert [f.items[0].name for f in loaded[:2]] == ["near", "other"]  # type: ignore[union-attr]


def test_dotted_imports_are_of_the_library_or_the_search_path(project: Path) -> None:
    first = sorted(library_path().rglob("*.tdsl"))[0]
    dotted = ".".join(first.relative_to(library_path()).with_suffix("").parts)
    write(project, top=f"import {dotted}")
    assert load_files([project / "top.tdsl"])[-2].span.source.name == str(first)
    (project / "mine").mkdir()
    write(project / "mine", blocks="rule r { relu(x) => x }")
    write(project, top="import mine.blocks")
    assert names(load_files([project / "top.tdsl"], [project])) == ["blocks", "top"]


@pytest.mark.parametrize(
    "path", ["../secret.tdsl", "sub/../../secret.tdsl", "/etc/secret.tdsl", "..\\\\secret.tdsl"]
)
def test_paths_out_of_the_folder_are_refused(project: Path, path: str) -> None:
    write(project.parent, secret="rule r { relu(x) => x }")
    write(project, top=f'import "{path}"')
    with pytest.raises(TdslError, match="does not leave its folder"):
        load_files([project / "top.tdsl"])


def test_links_out_of_the_folder_are_refused_and_links_inside_are_not(project: Path) -> None:
    write(project.parent, secret="rule r { relu(x) => x }")
    (project / "link.tdsl").symlink_to(project.parent / "secret.tdsl")
    write(project, top='import "link.tdsl"', base="rule r { relu(x) => x }", good='import "inside.tdsl"')
    (project / "inside.tdsl").symlink_to(project / "base.tdsl")
    with pytest.raises(TdslError, match="is a link out of"):
        load_files([project / "top.tdsl"])
    assert names(load_files([project / "good.tdsl"])) == ["inside", "good"]


def test_only_tdsl_files_are_imported(project: Path) -> None:
    (project / "data.json").write_text("{}")
    write(project, top='import "data.json"')
    with pytest.raises(TdslError, match=r"only `\.tdsl` files"):
        load_files([project / "top.tdsl"])


def test_a_misspelt_import_is_suggested(project: Path) -> None:
    write(project, top='import "bloks.tdsl"', blocks="rule r { relu(x) => x }")
    with pytest.raises(TdslError, match=r"did you mean `blocks\.tdsl`"):
        load_files([project / "top.tdsl"])


def test_a_mistake_in_an_imported_file_is_shown_there(project: Path) -> None:
    write(project, top='import "bad.tdsl"', bad="rule {")
    with pytest.raises(TdslError, match=r"bad\.tdsl:1:6"):
        load_files([project / "top.tdsl"])
