"""Actions through products of tensors: every index carries what acts along it.

An index that is summed over needs ρ and ρ⁻ᵀ on its two sides; one that stays keeps what acts on it; one that
is in several operands and stays (a batch) must be permuted alike in all of them.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from tdsl.symmetry.action import action, same
from tdsl.symmetry.along import Along, Turn, is_still, permutes, transposed_inverse
from tdsl.symmetry.transfer import Breaks, Law, Residual, Site, Value, distance, law, require_near, transfer

Operand = tuple[Value, str]
"""A tensor and a letter for each of its axes."""


def letters_of(count: int) -> str:
    """So many different letters, none of them among the last six."""
    return "".join(chr(ord("A") + i) for i in range(count))


def product_of(site: Site, operands: Sequence[Operand], output: str) -> Law:
    """The law of a sum of products. Raises `Breaks` at the first index that has none.

    A letter whose size is 1 in an operand and larger in another is broadcast.
    """
    seen = [_by_letter(value, letters) for value, letters in operands if value.constant is None]
    sizes: dict[str, int] = {}
    for value, letters in operands:
        for letter, size in zip(letters, value.shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    exchanged: dict[str, str] = {}
    for moves in seen:
        for letter, (_, source) in moves.items():
            if exchanged.setdefault(letter, source) != source:
                raise Breaks(f"the operands of {site.operator.name} are acted on in different orders of axes")
    parts: dict[int, Along] = {}
    residual: Residual | None = None
    for letter in dict.fromkeys("".join(letters for _, letters in operands)):
        here = [
            moves[letter][0] or Turn(sizes[letter], 0)
            for moves, (value, letters) in zip(
                seen, [o for o in operands if o[0].constant is None], strict=True
            )
            if letter in moves
            and value.shape[letters.index(letter)] == sizes[letter]
            and not value.is_alike_along(letters.index(letter))
        ]
        moving = [element for element in here if not is_still(element)]
        if not moving:
            continue
        constants = [
            (value, letters)
            for value, letters in operands
            if value.constant is not None and letter in letters
        ]
        if letter in output:
            parts[output.index(letter)] = _kept(site, here, constants)
        else:
            _summed(site, here, constants)
        for value, letters in constants:
            assert value.constant is not None
            if value.shape[letters.index(letter)] == sizes[letter]:
                alone = action(value.rank, {letters.index(letter): moving[0]})
                off = distance(alone.apply(value.constant), value.constant)
                what = f"a constant operand of {site.operator.name} is not invariant"
                residual = require_near(off, what) | (residual or Residual())
    if any(letter in output and source not in output for letter, source in exchanged.items()):
        raise Breaks(f"{site.operator.name} sums over an index that changes places with one that stays")
    order = [output.index(exchanged.get(letter, letter)) for letter in output]
    return law(site, action(len(output), parts, order), residual=residual)


def _by_letter(value: Value, letters: str) -> dict[str, tuple[Along | None, str]]:
    """For each letter what acts along it, and the letter whose place it takes."""
    return {
        letter: (value.action.part(i), letters[value.action.order[i]]) for i, letter in enumerate(letters)
    }


def _kept(site: Site, here: Sequence[Along], constants: Sequence[Operand]) -> Along:
    if len(here) == 1 and not constants:
        return here[0]
    if any(not _same(here[0], other) for other in here[1:]) or not permutes(here[0]):
        raise Breaks(f"the operands of {site.operator.name} are not permuted alike along a batch axis")
    return here[0]


def _summed(site: Site, here: Sequence[Along], constants: Sequence[Operand]) -> None:
    """Raise `Breaks` unless a sum over the index stays what it is."""
    if len(here) == 2 and not constants:
        if not _same(here[1], transposed_inverse(here[0])):
            raise Breaks(
                f"{site.operator.name} sums over an axis on which its operands are acted on differently"
            )
        return
    if any(not permutes(one) or not _same(here[0], one) for one in here):
        raise Breaks(f"{site.operator.name} sums over an axis on which its operands are acted on differently")


def _same(first: Along, second: Along) -> bool:
    return first == second or same(action(1, {0: first}), action(1, {0: second}))


# ---------------------------------------------------------------- operators


@transfer("einsum")
def _einsum(site: Site) -> Law:
    """As its equation says."""
    equation = site["equation"].replace(" ", "")
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    if not arrow:
        letters = sorted(set(inputs) - set(",."))
        output = "..." * ("." in inputs) + "".join(one for one in letters if inputs.count(one) == 1)
    terms, output = _spelt_out(site["tensors"], terms, output)
    if any(len(set(term)) != len(term) for term in terms):
        raise Breaks("einsum along a diagonal")
    return product_of(site, list(zip(site["tensors"], terms, strict=True)), output)


def _spelt_out(tensors: Sequence[Value], terms: Sequence[str], output: str) -> tuple[list[str], str]:
    """Letters in the place of ellipses, which align from the last axis."""
    spare = [letter for letter in string.ascii_letters if letter not in "".join((*terms, output))]
    counts = [
        value.rank - len(term) + len("...") if "." in term else 0
        for value, term in zip(tensors, terms, strict=True)
    ]
    most = max(counts)
    named = "".join(spare[:most])
    found = [term.replace("...", named[most - count :]) for term, count in zip(terms, counts, strict=True)]
    return found, output.replace("...", named)


@transfer("attention")
def _attention(site: Site) -> Law:
    """softmax(q·kᵀ)·v: tokens of k and v permuted alike do not matter, those of q are those of the result."""
    q, k, v = site["query"], site["key"], site["value"]
    for value in (q, k, v):
        if value.action.reorders:
            raise Breaks("attention, where axes change places")
    rank = q.rank
    mask: Any = site.arguments.get("mask")
    token, width = rank - 2, rank - 1
    if not _same_or_still(k.action.part(token), v.action.part(token)):
        raise Breaks("keys and values of attention are permuted differently")
    moved = q.action.part(token) is not None or k.action.part(token) is not None
    if moved and site.arguments.get("causal"):
        raise Breaks("causal attention depends on the order of the tokens")
    if isinstance(mask, Value):
        _mask(site, mask)
    for one in (q, k, v):
        if (part := one.action.part(token)) is not None and not permutes(part):
            raise Breaks("attention commutes with permutations of tokens only")
    left, right = (one.action.part(width) for one in (q, k))
    size = q.shape[width]
    if not _same(right or Turn(size, 0), transposed_inverse(left or Turn(size, 0))):
        raise Breaks("queries and keys of attention are acted on differently along their width")
    parts: dict[int, Along] = {}
    for axis in range(rank - 2):
        elements = [one.action.part(axis) or Turn(one.shape[axis], 0) for one in (q, k, v)]
        if any(not _same(elements[0], other) for other in elements[1:]) or not permutes(elements[0]):
            raise Breaks("queries, keys and values of attention are permuted differently along a batch axis")
        parts[axis] = elements[0]
    if (tokens := q.action.part(token)) is not None:
        parts[token] = tokens
    if (wide := v.action.part(width)) is not None:
        parts[width] = wide
    return law(site, action(rank, parts))


def _mask(site: Site, mask: Value) -> None:
    """Raise `Breaks` unless the mask is moved as batch and tokens are, where it is not alike on them."""
    q, k = site["query"], site["key"]
    parts: dict[int, Along] = {}
    for axis in range(mask.rank):
        at = axis - mask.rank
        part = k.action.part(k.rank - 2) if at == -1 else q.action.part(q.rank + at)
        if part is not None and mask.shape[axis] == part.size:
            parts[axis] = part
    wanted = action(mask.rank, parts)
    if mask.constant is None and mask.action != wanted:
        raise Breaks("the mask of attention is not permuted as its tokens are")
    if mask.constant is not None and not wanted.apply(mask.constant).equal(mask.constant):
        raise Breaks("the mask of attention is not invariant")


def _same_or_still(first: Along | None, second: Along | None) -> bool:
    if first is None or second is None:
        return first is second
    return _same(first, second)
