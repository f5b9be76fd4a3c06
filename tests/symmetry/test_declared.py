"""The declarations `group`, `action` and `symmetry`: what they mean, and what is said of mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from contracts import D4, O3, SETS, contract, declared
from typer.testing import CliRunner

from tdsl.cli.app import app
from tdsl.engine.library import load
from tdsl.errors import TdslError
from tdsl.lang import format_file, parse, parse_expression
from tdsl.symmetry.action import flipped, rotated
from tdsl.symmetry.declared import group_of
from tdsl.symmetry.group import cyclic, symmetric

DIAGNOSTICS = Path(__file__).parent / "diagnostics.txt"
DOCS = Path(__file__).parents[2] / "docs"


def cases() -> list[pytest.ParameterSet]:
    found = []
    for i, case in enumerate(DIAGNOSTICS.read_text(encoding="utf-8").rstrip("\n").split("\n\n=====\n\n")):
        source, message = case.split("\n\n<string>:", 1)
        found.append(pytest.param(source, f"<string>:{message}", id=str(i)))
    return found


@pytest.mark.parametrize(("source", "message"), cases())
def test_a_mistake_is_named_with_its_place_and_its_remedy(source: str, message: str) -> None:
    with pytest.raises(TdslError) as caught:
        declared(source)
    assert caught.value.render() == message


@pytest.mark.parametrize(
    ("text", "order", "degree"),
    [
        ("cyclic(4)", 4, 4),
        ("dihedral(5)", 10, 5),
        ("S(n)", 120, 5),
        ("A(4)", 12, 4),
        ("SO(3)", None, 3),
        ("Sp(2 * 2)", None, 4),
        ("product(S(n), C)", 480, 9),
        ("product(S(2), S(2), S(3))", 24, 7),
        ("wreath(cyclic(2), S(3))", 48, 6),
        ("generated([1, 0, 2], [0, 2, 1])", 6, 3),
        ("generated([[0, -1], [1, 0]])", 4, 2),
        ("C", 4, 4),
    ],
)
def test_groups_by_expression(text: str, order: int | None, degree: int) -> None:
    group = group_of(parse_expression(text, "test"), {"n": 5, "C": cyclic(4)})
    assert (group.order, group.degree) == (order, degree)


def test_a_contract_knows_what_its_generators_do() -> None:
    wanted = contract(D4)
    shapes = {("input", "image"): (2, 3, 8, 8)}
    square = wanted.acts(wanted.sizes(shapes))["square"]
    assert square.generator(0, (2, 3, 8, 8)) == rotated((2, 3, 8, 8), 1, 2, 3)
    assert square.generator(1, (2, 3, 8, 8)) == flipped((2, 3, 8, 8), (3,))
    assert square.word((0, 0, 0, 0), (2, 3, 8, 6)).is_identity
    assert wanted.tolerance == 1e-9


def test_sizes_of_a_group_come_from_the_edges() -> None:
    wanted = contract(SETS)
    sizes = wanted.sizes({("input", "points"): (2, 7, 3)})
    assert wanted.made_group(sizes) == symmetric(7)
    with pytest.raises(TdslError, match="`n` is 6 in output, and 7 before"):
        wanted.sizes({("input", "points"): (2, 7, 3), ("output", "output"): (2, 6, 3)})
    with pytest.raises(TdslError, match="the size `n` of Sn is no size of this contract"):
        wanted.made_group({})


def test_one_term_with_g_stands_for_every_element_and_its_derivative() -> None:
    acts = contract(O3).acts({})["rotate"]
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    direction = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)
    assert torch.allclose(acts.derivative(direction, x), x @ direction.T, atol=1e-10)
    pairs = declared(SETS + "action pairs of Sn on [..., n, n] { generator: g @ x @ g.T }\n")
    made = pairs.actions["pairs"]
    from tdsl.symmetry.contract import Acts

    square = torch.randn(4, 4)
    moved = Acts(made, symmetric(4)).generator(1, (4, 4)).apply(square)
    places = list(symmetric(4).generators[1].places)  # type: ignore[union-attr]
    assert torch.equal(moved, square[places][:, places])


def test_what_the_docs_declare_is_right_and_canonical() -> None:
    for page in ("language.md", "symmetry.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        blocks = [b for b in re.findall(r"```tdsl\n(.*?)```", text, re.DOTALL) if "group " in b]
        assert blocks
        declared("\n".join(blocks))
        assert all(format_file(parse(block)) == block for block in blocks)


def test_they_are_listed_and_shown(tmp_path: Path) -> None:
    file = tmp_path / "square.tdsl"
    file.write_text(D4, encoding="utf-8")
    listed = CliRunner().invoke(app, ["list", "symmetries", "--rules", str(file), "--json"])
    assert [entry["name"] for entry in json.loads(listed.stdout)["entries"]] == ["square.invariant"]
    listed = CliRunner().invoke(app, ["list", "square.*", "--rules", str(file), "--json"])
    kinds = {entry["name"]: entry["kind"] for entry in json.loads(listed.stdout)["entries"]}
    assert kinds == {"square.D4": "group", "square.invariant": "symmetry"}
    shown = CliRunner().invoke(app, ["show", "square.D4", "--rules", str(file)])
    assert "group D4 = dihedral(4)" in shown.stdout


def test_a_library_holds_them(tmp_path: Path) -> None:
    (tmp_path / "groups.tdsl").write_text("group C4 = cyclic(4)\n", encoding="utf-8")
    file = tmp_path / "turns.tdsl"
    file.write_text(
        'import "groups.tdsl"\n\naction turn of C4 on [..., H, W] {\n'
        "    generator: rot90(x, dims=(H, W))\n}\n\nlaw twice {\n    relu(relu(x)) == relu(x)\n}\n",
        encoding="utf-8",
    )
    library = load(file)
    assert list(library.symmetry.groups) == ["C4"]
    assert list(library.symmetry.actions) == ["turn"]
    assert "actions=['turn']" in repr(library)
    file.write_text(
        "action turn of C5 on [..., H, W] { generator: rot90(x, dims=(H, W)) }\n", encoding="utf-8"
    )
    with pytest.raises(TdslError, match="there is no group `C5`"):
        load(file)


@pytest.mark.parametrize(
    ("group", "terms", "kept"),
    [
        ("S(n)", "flip(x, dims=[n]) generator: roll(x, 1, dims=[n])", False),
        ("S(n)", "g @ x", True),
        ("dihedral(n)", "roll(x, 1, dims=[n]) generator: flip(x, dims=[n])", True),
        ("dihedral(n)", "roll(x, 1, dims=[n]) generator: roll(x, 1, dims=[n])", False),
    ],
)
@pytest.mark.parametrize("size", [5, 200])  # few elements, and more than can be tried one by one
def test_generators_keep_the_relations_of_the_group(group: str, terms: str, kept: bool, size: int) -> None:
    size = min(size, 9) if group == "S(n)" else size
    dims = "n, d" if "g @" in terms else "n"
    text = (
        f"group G = {group}\naction of_it of G on [..., {dims}] {{ generator: {terms} }}\n"
        f"symmetry s {{ group G input x: [..., {dims}] by of_it output y: [b] invariant }}"
    )
    acts = contract(text).acts({"n": size})["of_it"]
    shape = (size, 2) if "d" in dims else (2, size)
    if kept:
        acts.check(shape)
    else:
        with pytest.raises(TdslError, match="of_it is no action of"):
            acts.check(shape)
