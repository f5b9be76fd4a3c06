"""Every spelling against its canonical operator, and every normal form against what it normalises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operator_samples import SAMPLES, Draw, T

from tdsl.ops import OPERATORS, Operator
from tdsl.ops.spec import Operand
from tdsl.ops.targets import overload_for, resolve, spellings_of

aten = torch.ops.aten


def R(*shape: int) -> torch.Tensor:  # noqa: N802
    """A tensor of that shape, no two elements alike."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count, dtype=torch.float64) * 0.37) % 2 - 0.9).reshape(shape)


def B(*shape: int) -> torch.Tensor:  # noqa: N802
    return R(*shape) > 0


W = torch.arange(-3, 3)
COMPARISONS = ("not_equal", "less", "less_equal", "greater", "greater_equal")
PLACE = {"dtype": None, "layout": None, "device": None, "pin_memory": None}

EXAMPLES: dict[str, list[tuple[Any, ...]]] = {
    # linear algebra
    "mm.default": [(R(2, 3), R(3, 4))],
    "bmm.default": [(R(5, 2, 3), R(5, 3, 4))],
    "mv.default": [(R(2, 3), R(3))],
    "dot.default": [(R(3), R(3))],
    "ger.default": [(R(3), R(2))],
    # convolution
    "conv1d.padding": [
        (R(1, 2, 7), R(3, 2, 3), None, [1], "same"),
        (R(1, 2, 7), R(3, 2, 2), R(3), [2], "valid"),
    ],
    "conv2d.padding": [(R(1, 2, 7, 6), R(3, 2, 3, 5), R(3), [1, 1], "same", [2], 1)],
    "conv3d.padding": [(R(1, 2, 5, 5, 5), R(3, 2, 3, 1, 1), None, [1], "same")],
    "convolution.default": [
        (R(1, 2, 7), R(4, 1, 3), R(4), [2], [1], [1], False, [0], 2),
        (R(1, 2, 7, 7), R(4, 2, 3, 3), None, [2, 1], [1, 0], [1, 2], False, [0, 0], 1),
        (R(1, 2, 5, 5, 5), R(4, 2, 3, 3, 1), None, [1] * 3, [0] * 3, [1] * 3, False, [0] * 3, 1),
        (R(1, 4, 5), R(4, 1, 3), R(2), [2], [1], [1], True, [1], 2),
        (R(1, 4, 5, 5), R(4, 2, 3, 3), None, [2, 1], [1, 0], [1, 2], True, [1, 0], 1),
        (R(1, 4, 3, 3, 3), R(4, 2, 3, 3, 1), None, [1] * 3, [0] * 3, [1] * 3, True, [0] * 3, 1),
    ],
    # normalisation, activation, arithmetic
    "_softmax.default": [(R(2, 3), 1, False)],
    "_log_softmax.default": [(R(2, 3), 0, False)],
    "special_expit.default": [(R(4),)],
    "negative.default": [(R(4),)],
    "absolute.default": [(R(4),)],
    "sgn.default": [(R(4),)],
    "clip.default": [(R(4), -0.5, 0.5), (R(4), None, 0.5)],
    "clamp_min.default": [(R(4), 0.1)],
    "clamp_max.default": [(R(4), 0.1)],
    "clip.Tensor": [(R(4), R(4) - 0.1, R(4) + 0.1)],
    "clamp_min.Tensor": [(R(2, 4), R(4))],
    "clamp_max.Tensor": [(R(2, 4), R(4))],
    "_to_copy.default": [(R(4), {"dtype": torch.float32})],
    "to.dtype_layout": [(R(4), {"dtype": torch.float16})],
    "to.other": [(R(4), torch.zeros(2))],
    "type_as.default": [(R(4), torch.zeros(2, dtype=torch.float16)), (R(4), W)],
    **{f"__{word}__.Tensor": [(W, W.flip(0)), (B(4), B(4))] for word in ("and", "or", "xor")},
    **{f"__{word}__.Scalar": [(W, 6)] for word in ("and", "or", "xor")},
    "to.device": [(R(4), torch.device("cpu"), torch.float32)],
    "add.Scalar": [(R(4), 1.5, 2), (W, 2)],
    "sub.Scalar": [(R(4), 1.5, 2)],
    "subtract.Tensor": [(R(4), R(4), {"alpha": 3})],
    "subtract.Scalar": [(R(4), 1.5)],
    "rsub.Tensor": [(R(4), R(2, 4), {"alpha": 3})],
    "rsub.Scalar": [(R(4), 1.5, 2), (W, 2)],
    "mul.Scalar": [(R(4), 1.5), (W, 2)],
    "multiply.Tensor": [(R(4), R(4))],
    "multiply.Scalar": [(R(4), 3)],
    "div.Scalar": [(R(4), 3), (W, 2)],
    "divide.Tensor": [(R(4), R(4))],
    "divide.Scalar": [(R(4), 3)],
    "true_divide.Tensor": [(W, torch.tensor(2))],
    "true_divide.Scalar": [(R(4), 3)],
    "max.other": [(R(2, 4), R(4))],
    "min.other": [(R(2, 4), R(4))],
    **{f"{name}.Tensor": [(R(5), R(5).flip(0))] for name in COMPARISONS},
    **{f"{name}.Scalar": [(W, 1)] for name in COMPARISONS},
    # reductions
    "sum.default": [(R(2, 3),), (W, {"dtype": torch.float64})],
    "mean.default": [(R(2, 3),)],
    "max.default": [(R(2, 3),), (R(),)],
    "min.default": [(R(2, 3),)],
    **{f"{name}.dim": [(R(2, 3), [1]), (R(2, 3), None, False, True)] for name in ("var", "std", "var_mean")},
    **{f"{name}.default": [(R(2, 3),), (R(2, 3), False)] for name in ("var", "std", "var_mean")},
    "norm.Scalar": [(R(2, 3),), (R(2, 3), 1)],
    "norm.ScalarOpt_dim": [(R(2, 3), None, [1]), (R(2, 3), 3, [0], True)],
    "norm.ScalarOpt_dim_dtype": [(R(2, 3), 1, [1], True, {"dtype": torch.float64})],
    "norm.ScalarOpt_dtype": [(R(2, 3), 2, {"dtype": torch.float64})],
    "linalg_norm.default": [(R(2, 3),), (R(2, 3), 1, [1], True)],
    "any.default": [(B(2, 3),)],
    "any.dim": [(B(2, 3), 1, True)],
    "all.default": [(B(2, 3),)],
    "all.dim": [(B(2, 3), 0)],
    # pooling and resizing
    "_adaptive_avg_pool2d.default": [(R(1, 2, 5, 5), [2, 1])],
    "_adaptive_avg_pool3d.default": [(R(1, 2, 5, 5, 4), [2, 1, 2])],
    "upsample_nearest1d.default": [(R(1, 2, 4), [7]), (R(1, 2, 4), [8], 2.0)],
    "upsample_nearest2d.default": [(R(1, 2, 4, 3), [7, 3]), (R(1, 2, 4, 3), [6, 6], 1.5, 2.0)],
    "upsample_nearest3d.default": [(R(1, 2, 2, 3, 2), [4, 3, 5])],
    "_upsample_nearest_exact1d.default": [(R(1, 2, 4), [7])],
    "_upsample_nearest_exact2d.default": [(R(1, 2, 4, 3), [7, 3])],
    "_upsample_nearest_exact3d.default": [(R(1, 2, 2, 3, 2), [4, 3, 5])],
    "upsample_linear1d.default": [(R(1, 2, 4), [7], True), (R(1, 2, 4), [6], False, 1.6)],
    "upsample_trilinear3d.default": [(R(1, 2, 2, 3, 2), [4, 3, 5], False)],
    **{
        f"{'_' * name.endswith('aa')}upsample_{name}.default": [
            (R(1, 2, 4, 3), [7, 5], True),
            (R(1, 2, 4, 3), [6, 6], False, 1.5, 2.0),
        ]
        for name in (f"{kind}{end}" for kind in ("bilinear2d", "bicubic2d") for end in ("", "_aa"))
    },
    "grid_sampler_2d.default": [(R(1, 2, 3, 3), R(1, 2, 2, 2), 0, 0, True)],
    # movement
    "view.default": [(R(2, 6), [3, -1]), (R(2, 0), [0])],
    "_unsafe_view.default": [(R(2, 6), [12])],
    "view_copy.default": [(R(2, 6), [-1])],
    "flatten.using_ints": [(R(2, 3, 4),), (R(2, 3, 4), 1), (R(2, 3, 4), -3, 1), (R(),), (R(2, 0, 3), 1)],
    "unflatten.int": [(R(2, 6), 1, [2, 3]), (R(6, 2), -2, [-1, 3])],
    "view_as.default": [(R(2, 6), R(4, 3))],
    "reshape_as.default": [(R(2, 6), R(4, 3))],
    "ravel.default": [(R(2, 3),), (R(2, 0),), (R(),)],
    "permute_copy.default": [(R(2, 3, 4), [2, 0, -2])],
    "transpose.int": [(R(2, 3, 4), 0, -1), (R(), 0, -1)],
    "swapaxes.default": [(R(2, 3, 4), 0, 1)],
    "swapdims.default": [(R(2, 3, 4), 2, 1)],
    "t.default": [(R(2, 3),), (R(3),)],
    "numpy_T.default": [(R(2, 3),)],
    "mT.default": [(R(2, 3, 4),)],
    "movedim.int": [(R(2, 3, 4), 0, -1), (R(2, 3, 4), 2, 0)],
    "movedim.intlist": [(R(2, 3, 4, 5), [0, 1], [-1, 0])],
    "moveaxis.int": [(R(2, 3, 4), 1, 2)],
    "moveaxis.intlist": [(R(2, 3, 4), [2, 0], [0, 1])],
    "broadcast_to.default": [(R(2, 1, 3), [4, 2, -1, 3]), (R(3), [2, 3])],
    "expand_as.default": [(R(1, 3), R(2, 4, 3))],
    "squeeze.default": [(R(1, 3, 1),), (R(),)],
    "squeeze.dim": [(R(1, 3, 1), 0), (R(1, 3), 1)],
    "clone.default": [(R(2, 3),), (R(2, 3).T, {"memory_format": torch.contiguous_format})],
    "alias.default": [(R(2, 3),)],
    "lift_fresh_copy.default": [(R(2, 3),)],
    "lift_fresh.default": [(R(2, 3),)],
    "lift.default": [(R(2, 3),)],
    "positive.default": [(R(2, 3),)],
    # assembly
    "concat.default": [([R(2, 3), R(1, 3)],)],
    "concatenate.default": [([R(2, 3), R(2, 1)], -1)],
    "hstack.default": [([R(3), R(2)],), ([R(2, 3), R(2, 1)],)],
    "vstack.default": [([R(2, 3), R(1, 3)],)],
    "split.Tensor": [(R(7, 2), 3), (R(2, 6), 2, 1), (R(0, 2), 2)],
    "split.sizes": [(R(7, 2), [3, 4])],
    "chunk.default": [(R(7, 2), 3), (R(2, 6), 4, 1), (R(0, 2), 2)],
    "unsafe_split.Tensor": [(R(7, 2), 3)],
    "unsafe_split_with_sizes.default": [(R(7, 2), [3, 4])],
    "unsafe_chunk.default": [(R(7, 2), 3)],
    "tensor_split.sections": [(R(7, 2), 3), (R(2, 2), 3)],
    "tensor_split.indices": [(R(7, 2), [2, 5]), (R(7, 2), [-3, 9])],
    "slice_copy.Tensor": [(R(7, 2), 0, -4, 100, 2)],
    "narrow.default": [(R(7, 2), 0, 2, 3), (R(2, 7), -1, -3, 2)],
    "constant_pad_nd.default": [(R(2, 3), [1, 2, 0, 1], 0), (R(2, 3), [1, -1], 1.5)],
    **{
        f"{kind}_pad{n}d.default": [(R(1, 2, *[4] * n), [1, 2] * n)]
        for kind in ("reflection", "replication")
        for n in (1, 2, 3)
    },
    # rearrangement, indexing, creation
    "fliplr.default": [(R(2, 3),)],
    "flipud.default": [(R(2, 3),)],
    "tile.default": [(R(2, 3), [2]), (R(2, 3), [2, 1, 3])],
    "native_channel_shuffle.default": [(R(1, 4, 2, 2), 2)],
    "arange.default": [(5, PLACE), (2.5, {**PLACE, "dtype": torch.float32})],
    "arange.start": [(2, 6, PLACE)],
    "zero.default": [(R(2, 3),)],
    "eye.default": [(3, PLACE)],
    "meshgrid.default": [([R(2), R(3)],)],
}  # fmt: skip


def wrapped(value: Any) -> Any:
    """Tensors as conversions see them."""
    if isinstance(value, torch.Tensor):
        return Operand(value, tuple(value.shape), value.dtype)
    return [wrapped(v) for v in value] if isinstance(value, (list, tuple)) else value


def unwrapped(value: Any) -> Any:
    if isinstance(value, Operand):
        return value.handle
    return [unwrapped(v) for v in value] if isinstance(value, (list, tuple)) else value


def complete(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments with the defaults of the schema filled in."""
    positional, keywords = list(args), dict(kwargs)
    for i, a in enumerate(target._schema.arguments):
        if a.kwarg_only:
            keywords.setdefault(a.name, a.default_value)
        elif i >= len(args):
            positional.append(a.default_value)
    return positional, keywords


def split_keywords(arguments: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    keyword_only = bool(arguments) and isinstance(arguments[-1], dict)
    return (tuple(arguments[:-1]), dict(arguments[-1])) if keyword_only else (tuple(arguments), {})


def run_canonical(op: Operator, converted: Any) -> Any:
    args, kwargs = split_keywords(converted)
    given = [unwrapped(a) for a in args]
    # A bare integer for each axis is the canonicaliser's to spread.
    given = [v if p.is_operand else p.canonical(v) for p, v in zip(op.params, given, strict=False)]
    return overload_for(op, given)(*given, **kwargs)


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)
        return
    assert len(found) == len(expected)
    for left, right in zip(found, expected, strict=True):
        assert_same(left, right)


SPELLINGS = sorted({s.target.removeprefix("aten.") for op in OPERATORS.values() for s in op.spellings})


def test_every_spelling_has_an_example() -> None:
    assert sorted(EXAMPLES) == SPELLINGS


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_means_its_operator(name: str) -> None:
    target = resolve(f"aten.{name}")
    for example in EXAMPLES[name]:
        args, kwargs = split_keywords(example)
        expected = target(*args, **kwargs)
        positional, keywords = complete(target, args, kwargs)
        for op, spelling in spellings_of(target):
            if spelling.convert is None:
                converted: Any = (*positional, keywords)
            else:
                converted = spelling.convert(*wrapped(positional), **keywords)
            if converted is not None:
                assert_same(run_canonical(op, converted), expected)
                break
        else:
            pytest.fail(f"{name} has no equivalent for {example}")


def test_a_wrong_conversion_is_found() -> None:
    x = R(2, 3, 4)
    with pytest.raises(AssertionError):
        assert_same(run_canonical(OPERATORS["permute"], (x, [0, 2, 1])), aten.transpose.int(x, 0, 1))


@pytest.mark.parametrize("name", [n for n, op in OPERATORS.items() if op.normal])
def test_a_normal_form_means_the_same_and_is_stable(name: str) -> None:
    op = OPERATORS[name]
    assert op.normal is not None
    for seed in range(15):
        found = SAMPLES[name](Draw(seed))
        generator = torch.Generator().manual_seed(seed)

        def made(value: Any, generator: torch.Generator = generator) -> Any:
            if isinstance(value, list):
                return [made(v) for v in value]
            return value.make(generator) if isinstance(value, T) else value

        values = {p.name: p.canonical(made(found.get(p.name, p.default))) for p in op.params}
        for p in op.operands:
            values[p.name] = made(found.get(p.name))
        positional = [values[p.name] for p in op.params if not p.keyword_only]
        keywords = {p.name: values[p.name] for p in op.params if p.keyword_only}
        target = overload_for(op, positional)
        args, kwargs = split_keywords(op.normal(*wrapped(positional), **keywords))
        if name not in ("empty", "empty_like", "new_empty"):
            assert_same(run_canonical(op, (*args, kwargs)), target(*positional, **keywords))
        again = op.normal(*complete(target, args, kwargs)[0], **complete(target, args, kwargs)[1])
        assert split_keywords(again) == (args, kwargs)


# ---------------------------------------------------------------- uses without an equivalent


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("_softmax.default", (R(2, 3), 1, True)),
        ("conv1d.padding", (R(1, 2, 7), R(3, 2, 2), None, [1], "same", [1], 1)),
        ("upsample_nearest1d.default", (R(1, 2, 4), [9], 2.0)),
        ("tensor_split.indices", (R(7, 2), [5, 2], 0)),
        ("vstack.default", ([R(3), R(3)],)),
        ("linalg_norm.default", (R(2, 2), 1, None, False, {"dtype": None})),
        ("to.dtype_layout", (R(2), {"dtype": None, "layout": None, "device": None, "pin_memory": None})),
    ],
)
def test_a_use_without_an_equivalent_stays_as_it_is(name: str, arguments: tuple[Any, ...]) -> None:
    args, kwargs = split_keywords(arguments)
    for _, spelling in spellings_of(resolve(f"aten.{name}")):
        assert spelling.convert is not None
        assert spelling.convert(*wrapped(args), **kwargs) is None


class Dynamic:
    """Stands for a symbolic size."""

    def __mul__(self, other: object) -> Dynamic:
        return self

    __rmul__ = __mul__


def converted(name: str, *arguments: Any) -> Any:
    (_, spelling), *_rest = spellings_of(resolve(f"aten.{name}"))
    assert spelling.convert is not None
    return spelling.convert(*arguments)


def test_one_dynamic_size_is_written_as_what_is_left() -> None:
    n = Dynamic()
    image, several = Operand("x", (n, 512, 1, 1)), Operand("x", (n, 512, n, 1))
    assert converted("flatten.using_ints", image, 1, -1) == (image, [-1, 512])
    assert converted("flatten.using_ints", several, 0, 1) is None
    assert converted("unflatten.int", Operand("x", (n, 6)), 1, [2, -1])[1] == [-1, 2, 3]
    assert converted("squeeze.default", image) is None
    assert converted("chunk.default", image, 2, 0) is None
    assert converted("chunk.default", image, 2, 1) == (image, [256, 256], 1)


def test_unknown_shapes_convert_only_what_does_not_need_them() -> None:
    x = Operand("x", None)
    assert converted("transpose.int", x, 0, 1) is None
    assert converted("flatten.using_ints", x, 0, -1) is None
    assert converted("view.default", x, [2, -1]) == (x, [2, -1])
    assert converted("squeeze.dim", x, 0) == (x, [0])
