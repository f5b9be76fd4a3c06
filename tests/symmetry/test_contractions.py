"""Contractions with δ and ε: their numbers by degree, what they do under rotations, and ε·ε."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tdsl import TdslError
from tdsl.capture import capture
from tdsl.emit import emit
from tdsl.symmetry.diagrams.contractions import Contraction, Kind, contractions, without_symbols
from tdsl.symmetry.group import orthogonal, special_orthogonal

VECTOR, MATRIX, SYMMETRIC = Kind(1), Kind(2), Kind(2, symmetric=True)


def vectors(names: str) -> dict[str, Kind]:
    return dict.fromkeys(names, VECTOR)


@pytest.mark.parametrize(
    ("family", "n", "kinds", "counts"),
    [
        # of one symmetric matrix the polynomials in tr A, tr A², tr A³: partitions into parts of at most n
        ("O", 3, {"A": SYMMETRIC}, [1, 2, 3, 4, 5]),
        ("O", 2, {"A": SYMMETRIC}, [1, 2, 2, 3, 3]),
        # of vectors the polynomials in the entries of their Gram matrix (Weyl)
        ("O", 3, vectors("xy"), [0, 3, 0, 6, 0, 10]),
        ("O", 3, vectors("xyz"), [0, 6, 0, 21]),
        # ... of which the determinant is zero for three vectors of a plane: 56 - 1
        ("O", 2, vectors("xyz"), [0, 6, 0, 21, 0, 55]),
        # the volume of three vectors is an invariant of rotations
        ("SO", 3, vectors("xyz"), [0, 6, 1, 21, 6]),
        ("SO", 2, vectors("xy"), [0, 4, 0, 9]),
        # of any matrix of the plane: tr A; (tr A)², tr A², tr AAᵀ
        ("O", 2, {"A": MATRIX}, [1, 3]),
        ("SO", 2, {"A": MATRIX}, [2]),
    ],
)
def test_as_many_as_there_are(family: str, n: int, kinds: dict[str, Kind], counts: list[int]) -> None:
    assert [len(contractions(family, n, kinds, d)) for d in range(1, len(counts) + 1)] == counts


def tensors_of(kinds: dict[str, Kind], n: int, seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    found = {}
    for name, kind in kinds.items():
        drawn = torch.randn((4, *(n,) * kind.order), generator=random, dtype=torch.float64)
        found[name] = drawn + drawn.mT if kind.symmetric else drawn
    return found


def turned(value: Tensor, by: Tensor) -> Tensor:
    """Every axis but the first."""
    for axis in range(1, value.ndim):
        value = (value.movedim(axis, -1) @ by.T).movedim(-1, axis)
    return value


KINDS = {"A": SYMMETRIC, "x": VECTOR, "y": VECTOR}


@pytest.mark.parametrize("outputs", [0, 1, 2])
def test_each_turns_as_its_type_says(outputs: int) -> None:
    found = contractions("SO", 3, KINDS, 4 if not outputs else 3, outputs)
    assert {one.parity for one in found} == {1, -1}
    values = tensors_of(KINDS, 3, 0)
    (turn,), mirror = special_orthogonal(3).sample(1), orthogonal(3).generators[0].matrix()
    for by, sign in ((turn, 1), (mirror, -1)):
        moved = {name: turned(value, by) for name, value in values.items()}
        for one in found:
            plain = one.apply(values)
            assert plain.shape == (4, *(3,) * outputs) and float(plain.std()) > 1e-3
            expected = turned(plain, by) * (one.parity if sign < 0 else 1)
            torch.testing.assert_close(one.apply(moved), expected, rtol=1e-12, atol=1e-12)
            if sign < 0 and one.parity < 0:  # a control: an odd number of ε sees the reflection
                assert not torch.allclose(one.apply(moved), turned(plain, by))


def test_in_words() -> None:
    [volume] = [one for one in contractions("SO", 3, vectors("xyz"), 3) if one.parity < 0]
    assert volume.text == "ε_abc x_a y_b z_c"
    assert [one.text for one in contractions("O", 3, {"A": SYMMETRIC, "x": VECTOR}, 2, outputs=1)] == [
        "[a] A_ab x_b",
        "[a] A_bb x_a",
    ]


def test_two_symbols_are_none() -> None:
    [volume] = [one for one in contractions("SO", 3, vectors("xyz"), 3) if one.parity < 0]
    terms = without_symbols(volume, volume)
    assert len(terms) == 6 and all(one.parity == 1 for _, one in terms)
    values = tensors_of(vectors("xyz"), 3, 1)
    squared = volume.apply(values) ** 2
    torch.testing.assert_close(sum(s * one.apply(values) for s, one in terms), squared, rtol=1e-12, atol=0)
    wrong = sum(one.apply(values) for _, one in terms)
    assert not torch.allclose(wrong, squared)
    with pytest.raises(TdslError, match="each with an ε"):
        without_symbols(volume, terms[0][1])


class Features(nn.Module):
    def __init__(self, found: list[Contraction]) -> None:
        super().__init__()
        self.found = found

    def forward(self, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([one.apply({"A": a, "x": x, "y": y}) for one in self.found], -1)


def test_their_file_has_products_and_no_einsum() -> None:
    values = {name: value.float() for name, value in tensors_of(KINDS, 3, 0).items()}
    features = Features(contractions("SO", 3, KINDS, 4))
    nodes = {node.op_type for node in emit(capture(features, tuple(values.values()))).graph.node}
    assert "Einsum" not in nodes and "MatMul" in nodes


def test_what_there_is_not() -> None:
    with pytest.raises(TdslError, match="belong to O"):
        contractions("Sp", 2, vectors("x"), 2)
    with pytest.raises(TdslError, match="have 12 axes"):
        contractions("O", 3, {"A": MATRIX}, 6)
