"""A file is written whole or not at all: whoever reads it meets the old one or the new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdsl.errors import TdslError
from tdsl.files import require_writable, whole, written


def test_a_reader_of_the_old_file_goes_on_reading_it(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old " * 1000)
    with target.open() as reader:
        begun = reader.read(4)
        with whole(target) as part:
            part.write_text("new")
            assert target.read_text().startswith("old")
        assert begun + reader.read() == "old " * 1000
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_what_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")
    target.chmod(0o640)
    with pytest.raises(ValueError, match="half"), whole(target) as part:
        part.write_text("new")
        raise ValueError("half written")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    with whole(target) as part:
        part.write_text("new")
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_folder_that_is_missing_is_made_and_what_is_in_the_way_is_said(tmp_path: Path) -> None:
    with written(tmp_path / "a" / "b" / "curve.json") as part:
        part.write_text("{}")
    assert (tmp_path / "a" / "b" / "curve.json").read_text() == "{}"
    with (
        pytest.raises(TdslError, match=r"cannot write .*curve.json/x"),
        written(tmp_path / "a" / "b" / "curve.json" / "x"),
    ):
        pass


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path, tmp_path / "file" / "model.onnx"):
        with pytest.raises(TdslError, match="cannot write"):
            require_writable(path)
    require_writable(tmp_path / "folder" / "to" / "be" / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
