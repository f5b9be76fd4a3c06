"""Every declared decomposition keeps its promise, and a wrong one would be caught doing otherwise."""

from __future__ import annotations

import dataclasses
import inspect
import math

import pytest
import torch
from torch import Tensor

from tdsl.errors import TdslError
from tdsl.factor.declare import Decomposition, Form
from tdsl.factor.matrix import svd
from tdsl.factor.rank import Energy, as_rank_rule
from tdsl.factor.structure import relative_error
from tdsl.factor.table import DECOMPOSITIONS, FUNCTIONS
from tdsl.symmetry.group import Group, cyclic, symmetric
from tdsl.symmetry.representation import Representation
from tdsl.symmetry.space import Space, commutant

SIZES = {
    "e": 5,
    "h": 2,
    "m": 7,
    "n": 5,
    "M": 12,
    "N": 18,
    "P": 16,
    "Q": 24,
    "G": 2,
    "T": 6,
    "S": 4,
    "k": 5,
    "kd": 2,
    "kh": 3,
    "kw": 2,
    "patch": 4 * 3 * 2,
}


def weight_of(form: Form) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn([SIZES[dim] for dim in form.operand], generator=generator, dtype=torch.float64)


def moments_of(decomposition: Decomposition, form: Form) -> list[Tensor]:
    """Random statistics of the declared shapes: definite where the axes come twice, else positive."""
    generator = torch.Generator().manual_seed(4)
    axes = len(form.operand)
    shapes = next((f.results for f in decomposition.moments if len(f.operand) == axes), ())
    drawn = []
    for dims in shapes:
        sizes = [SIZES[dim] for dim in dims]
        root, half = torch.randn(*sizes, generator=generator, dtype=torch.float64), len(dims) // 2
        if len(dims) % 2 or dims[:half] != dims[half:]:
            drawn.append(root.square() + 0.1)
            continue
        matrix = root.reshape(math.prod(sizes[:half]), -1)
        drawn.append((matrix @ matrix.T + 0.1 * torch.eye(len(matrix))).reshape(sizes))
    return drawn


def keeps_its_promise(decomposition: Decomposition, form: Form) -> None:
    """At rank rules that keep everything the promise is an equation; below, the factors lose at most what
    was allowed. The factors have the declared number, names of axes and sizes.
    """
    weight, moments = weight_of(form), moments_of(decomposition, form)
    for rule, allowed in ((Energy(1.0), 1e-12), (as_rank_rule(1), 1.0), (Energy(0.7), 0.3**0.5)):
        factors = decomposition.function(weight, *moments, rule)
        assert len(factors) == decomposition.results == len(form.results)
        assert decomposition.relative_error(weight, decomposition.promise(*factors), *moments) <= allowed
        sizes = dict(SIZES)
        for factor, dims in zip(factors, form.results, strict=True):
            assert factor.dtype in (torch.float64, torch.int64) and factor.ndim == len(dims)
            for dim, size in zip(dims, factor.shape, strict=True):
                assert size == (int(dim) if dim.isdigit() else sizes.setdefault(dim, size)), (dim, dims)
    least = decomposition.promise(*decomposition.function(weight, *moments, 1))
    assert relative_error(weight, least) > 1e-3


FORMS = [
    pytest.param(d, f, id=f"{d.name}-{len(f.operand)}d") for d in DECOMPOSITIONS.values() for f in d.forms
]


@pytest.mark.parametrize(("decomposition", "form"), FORMS)
def test_the_promise_is_kept(decomposition, form):
    keeps_its_promise(decomposition, form)


HONEST = DECOMPOSITIONS["svd"]
WRONG = {
    "scales one factor twice": {"function": lambda w, r: (2 * svd(w, r)[0], svd(w, r)[1])},
    "loses a term": {"function": lambda w, r: tuple(svd(w, max(1, svd(w, r)[0].shape[1] - 1)))},
    "promises another order": {"promise": lambda u, v: v.T @ u.T},
    "declares transposed factors": {"forms": (Form(("m", "n"), (("r", "m"), ("n", "r"))),)},
    "declares three factors": {"results": 3},
    "returns float32": {"function": lambda w, r: tuple(f.float() for f in svd(w, r))},
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_decomposition_is_caught(fault):
    wrong = dataclasses.replace(HONEST, **WRONG[fault])
    with pytest.raises((AssertionError, TdslError)):
        keeps_its_promise(wrong, wrong.forms[0])


def declared_and_actual(params: tuple[str, ...], function: object) -> tuple[list[bool], list[bool]]:
    """Which of the arguments are optional, as declared and as the function has it."""
    parameters = list(inspect.signature(function).parameters.values())[: len(params)]
    return [p.endswith("?") for p in params], [p.default is not p.empty for p in parameters]


@pytest.mark.parametrize("entry", [*DECOMPOSITIONS.values(), *FUNCTIONS.values()], ids=lambda e: e.name)
def test_declared_arguments_are_those_of_the_function(entry):
    declared, actual = declared_and_actual(entry.params, entry.function)
    assert declared == actual
    assert entry.doc.endswith(".")
    assert (entry.name in DECOMPOSITIONS) != (entry.name in FUNCTIONS)


def test_an_argument_declared_wrongly_would_be_seen():
    declared, actual = declared_and_actual(("W", "rank?"), svd)
    assert declared != actual


def test_every_kind_returns_what_it_says():
    weight = torch.eye(3)
    arguments = {
        "defect": (weight, commutant(symmetric(3))),
        "energy_rank": (weight, 0.5),
        "homogeneous": (weight, weight[0]),
        "multiplications": (weight[None],),
        "in_order": (3,),
        "is_mirrored": (weight, (-1,)),
        "is_segmented": (torch.arange(3), 3),
        "keeps_groups": (torch.arange(4), 2),
        "lookups": (torch.arange(3)[:, None], *[torch.zeros(1, dtype=torch.int64)] * 2, torch.arange(3)),
        "products_in_blocks": (
            *[torch.zeros(n, dtype=torch.int64) for n in (3, (1, 3), (1, 2), (1, 3), 3)],
            16,
        ),
        "relative_error": (weight, weight),
    }
    ring = cyclic(3)
    groups = {
        "Sp": (2,),
        "generated": ([1, 0, 2], [1, 2, 0]),
        "aut": (torch.eye(3),),
        **dict.fromkeys(("product", "wreath", "hom"), (ring, ring)),
        **dict.fromkeys(("regular", "commutant"), (ring,)),
        **dict.fromkeys(("power", "trivial"), (ring, 2)),
        "channels": (commutant(ring), 2, 2),
    }
    rank_arguments = {
        "energy": (0.9,),
        "ratio": (0.5,),
        "error": (0.1,),
        "auto": (),
        "stable": (),
        "tiled": (0.5, 8),
    }
    for name, entry in FUNCTIONS.items():
        if entry.kind == "rank":
            rule = entry.function(*rank_arguments[name])
            assert as_rank_rule(rule) is rule
        elif entry.kind in ("group", "space"):
            made = entry.function(*groups.get(name, (3,)))
            assert isinstance(made, Space if entry.kind == "space" else Group | Representation), name
        else:
            answer = entry.function(*arguments.get(name, (weight,)))
            assert isinstance(answer, bool) is (entry.kind == "predicate")
            assert isinstance(answer, Tensor if entry.kind == "tensor" else (int, float))


def test_forms_are_found_by_the_number_of_axes():
    assert DECOMPOSITIONS["spatial_svd"].form(4).results == (("r", "S", "kh", "1"), ("T", "r", "1", "kw"))
    assert DECOMPOSITIONS["spatial_svd"].form(3) is None


def test_the_table_cannot_be_changed_in_passing():
    with pytest.raises(TypeError):
        DECOMPOSITIONS["mine"] = HONEST
