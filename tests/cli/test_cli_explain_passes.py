"""`tdsl explain` of passes that take parameters."""

from __future__ import annotations

from typing import Any


def test_a_pass_with_parameters_is_explained(tdsl: Any) -> None:
    found = tdsl("explain", "share.factors", "tiny.py:model", "--set", "error=50%")
    assert found.status == 0
    assert "no other dense layer has its shape" in found.out
    wrong = tdsl("explain", "share.factors", "tiny.py:model", "--set", "errors=50%")
    assert wrong.status != 0 and "pass share.factors has no parameter errors" in wrong.err
