"""What docs/diagrams.md shows loads, is in canonical form, and does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from tdsl.capture import capture
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library, standard_library
from tdsl.lang import format_file, parse

TEXT = (Path(__file__).parents[2] / "docs" / "diagrams.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```tdsl\n(.*?)```", TEXT, re.DOTALL)


def library() -> Library:
    known = standard_library().extended(Library())
    known.add_file(parse("\n".join(BLOCKS)), "docs")
    return known


def test_every_block_loads_and_is_canonical() -> None:
    assert len(BLOCKS) == 2
    library()
    assert all(format_file(parse(block)) == block for block in BLOCKS)


def test_a_layer_that_commutes_with_turns_of_the_plane_is_two_numbers() -> None:
    rule = library().rule("docs.rotations_of_planes")
    layer = nn.Linear(2, 2).double().eval()
    x = torch.randn(5, 2, dtype=torch.float64)
    for turned, fired in (((0.5, -2.0), 1), ((0.5, 2.0), 0)):
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[0.5, 2.0], [turned[1], turned[0]]]))
        module = capture(layer, (x,)).module
        assert rewrite(module, [rule], None, Journal()) == fired
        module.recompile()
        torch.testing.assert_close(module(x), layer(x))
