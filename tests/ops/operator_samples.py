"""Random arguments for every operator of the table, as shapes with a role, to be made into tensors.

Each entry of `SAMPLES` draws one set of valid arguments, by the names of the parameters. Sizes run from
0 (rarely) to 5; what an operator needs to be defined at all is respected.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tdsl.ops import OPERATORS, Operator
from tdsl.ops.targets import overload_for


@dataclass(frozen=True)
class T:
    """A tensor to be made: its shape, and what its elements are like."""

    shape: tuple[int, ...]
    role: str = "real"  # real, positive, unit (in (-1, 1)), share (in (0, 1)), above (1), bool, whole, index
    below: int = 1
    """Exclusive bound of an index."""

    def make(self, generator: torch.Generator | None = None, device: str = "cpu") -> torch.Tensor:
        dtype = {"bool": torch.bool, "whole": torch.int64, "index": torch.int64}.get(self.role, torch.float64)
        if device == "meta":
            return torch.empty(self.shape, dtype=dtype, device="meta")
        if self.role == "index":
            return torch.randint(0, max(self.below, 1), self.shape, generator=generator)
        if self.role == "whole":
            return torch.randint(-5, 6, self.shape, generator=generator)
        uniform = torch.rand(self.shape, generator=generator, dtype=torch.float64)
        if self.role == "bool":
            return uniform < 0.5
        low, high = {
            "real": (-3, 3),
            "positive": (0.1, 3),
            "unit": (-0.9, 0.9),
            "share": (0, 1),
            "above": (1.1, 3),
        }[self.role]
        return low + (high - low) * uniform


class Draw:
    """A seeded source of sizes and shapes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def int(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def size(self) -> int:
        return self.random.choice((0, 1, 1, 2, 2, 3, 3, 4, 5))

    def some(self) -> int:
        return self.random.randint(1, 5)

    def shape(self, least: int = 0, most: int = 4, empty: bool = True) -> tuple[int, ...]:
        return tuple(self.size() if empty else self.some() for _ in range(self.int(least, most)))

    def dim(self, rank: int) -> int:
        return self.int(-max(rank, 1), max(rank, 1) - 1)

    def dims(self, rank: int, least: int = 0) -> list[int]:
        chosen = self.random.sample(range(rank), self.int(min(least, rank), rank))
        return [d - rank if self.random.random() < 0.5 else d for d in chosen]

    def under(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts to `shape`."""
        kept = shape[self.int(0, len(shape)) :]
        return tuple(1 if self.random.random() < 0.3 else n for n in kept)

    def maybe(self, value: Any) -> Any:
        return value if self.random.random() < 0.6 else None


Sample = dict[str, Any]
SAMPLES: dict[str, Callable[[Draw], Sample]] = {}


def sample(*names: str) -> Callable[[Callable[[Draw], Sample]], Callable[[Draw], Sample]]:
    def register(function: Callable[[Draw], Sample]) -> Callable[[Draw], Sample]:
        for name in names:
            SAMPLES[name] = function
        return function

    return register


def called(op: Operator, found: Sample, make: Callable[[T], Any]) -> Any:
    """`op` on the sample, its tensors made by `make`."""

    def value(given: Any) -> Any:
        if isinstance(given, T):
            return make(given)
        if isinstance(given, list):
            return [value(item) for item in given]
        return given

    made = {p.name: p.canonical(value(found[p.name])) for p in op.params if p.name in found}
    for p in op.operands:
        made.setdefault(p.name, None)
    positional, keywords = [], {}
    for p in op.params:
        if p.keyword_only:
            if p.name in made:
                keywords[p.name] = made[p.name]
        else:
            positional.append(made.get(p.name, p.default))
    target = overload_for(op, positional)
    names = [a.name for a in target._schema.arguments]
    at = {p.name: names[i] for i, p in enumerate(op.params)}
    return target(*positional, **{at[name]: value for name, value in keywords.items()})


# ---------------------------------------------------------------- linear algebra


@sample("linear")
def _linear(d: Draw) -> Sample:
    n, m = d.size(), d.some()
    return {"x": T((*d.shape(0, 3), n)), "weight": T((m, n)), "bias": d.maybe(T((m,)))}


@sample("matmul")
def _matmul(d: Draw) -> Sample:
    n, batch = d.size(), d.shape(0, 2)
    x = d.pick((n,), (d.size(), n), (*d.under(batch), d.size(), n))
    y = d.pick((n,), (n, d.size()), (*batch, n, d.size()))
    return {"x": T(x), "y": T(y)}


@sample("addmm")
def _addmm(d: Draw) -> Sample:
    m, n, k = d.size(), d.size(), d.size()
    return {
        "bias": T(d.under((m, k))),
        "x": T((m, n)),
        "weight": T((n, k)),
        "beta": d.pick(1, 2),
        "alpha": d.pick(1, 0.5),
    }


@sample("baddbmm")
def _baddbmm(d: Draw) -> Sample:
    b, m, n, k = d.size(), d.size(), d.size(), d.size()
    return {"bias": T(d.under((b, m, k))), "x": T((b, m, n)), "weight": T((b, n, k)), "alpha": d.pick(1, 0.5)}


@sample("outer")
def _outer(d: Draw) -> Sample:
    return {"x": T((d.size(),)), "y": T((d.size(),))}


@sample("einsum")
def _einsum(d: Draw) -> Sample:
    equation = d.pick(
        "ij,jk->ik", "bij,bjk->bik", "i,j->ij", "ij->ji", "ij,ij->", "bhid,bhjd->bhij", "ij,jk", "ji",
        "abc->b", "...ij,...jk->...ik", "i...->...", "ii", "ab,bc,cd->ad", "...a,ab",
    )  # fmt: skip
    sizes = {letter: d.size() for letter in sorted(set(equation) - set(",->. "))}
    batch = d.shape(0, 2)
    terms = equation.partition("->")[0].split(",")
    shapes = []
    for term in terms:
        head, dots, tail = term.partition("...")
        middle = d.under(batch) if dots else ()
        shapes.append((*(sizes[c] for c in head), *middle, *(sizes[c] for c in tail)))
    return {"equation": equation, "tensors": [T(shape) for shape in shapes]}


# ---------------------------------------------------------------- convolution, pooling, resizing


def _conv(axes: int) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        groups = d.pick(1, 1, 2)
        c, o = groups * d.int(1, 2), groups * d.int(1, 2)
        kernel = [d.int(1, 3) for _ in range(axes)]
        batch = d.pick((), (d.size(),))
        one = d.pick(True, False)
        return {
            "x": T((*batch, c, *(d.int(5, 7) for _ in range(axes)))),
            "weight": T((o, c // groups, *kernel)),
            "bias": d.maybe(T((o,))),
            "stride": d.pick(1, 2) if one else [d.int(1, 3) for _ in range(axes)],
            "padding": [d.int(0, 2) for _ in range(axes)],
            "dilation": [d.int(1, 2) for _ in range(axes)],
            "groups": groups,
        }

    return draw


def _conv_transpose(axes: int) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        found = _conv(axes)(d)
        groups = found["groups"]
        c, o = found["x"].shape[-axes - 1], groups * d.int(1, 2)
        strides = [d.int(1, 3) for _ in range(axes)]
        found.update(
            weight=T((c, o // groups, *found["weight"].shape[2:])),
            bias=d.maybe(T((o,))),
            stride=strides,
            output_padding=[d.int(0, s - 1) for s in strides],
        )
        return found

    return draw


def _pool(axes: int, dilated: bool, divisor: bool) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        kernel = [d.int(1, 3) for _ in range(axes)]
        found: Sample = {
            "x": T((*d.pick((), (d.some(),)), d.some(), *(d.int(5, 7) for _ in range(axes)))),
            "kernel": kernel,
            "stride": d.pick([], [d.int(1, 3) for _ in range(axes)]),
            "padding": [d.int(0, k // 2) for k in kernel],
            "ceil_mode": d.pick(True, False),
        }
        if dilated:
            found["dilation"] = d.pick([1] * axes, [d.int(1, 2) for _ in range(axes)])
        else:
            found["count_include_pad"] = d.pick(True, False)
        if divisor:
            found["divisor"] = d.pick(None, 3)
        return found

    return draw


def _adaptive(axes: int) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        x = (*d.pick((), (d.some(),)), d.some(), *(d.int(1, 7) for _ in range(axes)))
        return {"x": T(x), "size": [d.int(1, 4) for _ in range(axes)]}

    return draw


for _n in (1, 2, 3):
    SAMPLES[f"conv{_n}d"] = _conv(_n)
    SAMPLES[f"conv_transpose{_n}d"] = _conv_transpose(_n)
    SAMPLES[f"avg_pool{_n}d"] = _pool(_n, dilated=False, divisor=_n > 1)
    SAMPLES[f"max_pool{_n}d"] = SAMPLES[f"max_pool{_n}d_with_indices"] = _pool(
        _n, dilated=True, divisor=False
    )
    SAMPLES[f"adaptive_avg_pool{_n}d"] = SAMPLES[f"adaptive_max_pool{_n}d"] = _adaptive(_n)


def _resize(axes: int, align: bool) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        by_size = d.pick(True, False)
        found: Sample = {
            "x": T((d.some(), d.some(), *(d.int(2, 6) for _ in range(axes)))),
            "size": [d.int(1, 8) for _ in range(axes)] if by_size else None,
            "scale": None if by_size else [d.pick(2.0, 0.5, 1.5) for _ in range(axes)],
        }
        if align:
            found["align_corners"] = d.pick(True, False)
        return found

    return draw


for _name, _op in OPERATORS.items():
    if _op.result == "resize":
        _axes = int(_name.removesuffix("_aa")[-2])
        SAMPLES[_name] = _resize(_axes, align=_op.param("align_corners") is not None)


@sample("grid_sample")
def _grid_sample(d: Draw) -> Sample:
    b = d.some()
    return {
        "x": T((b, d.some(), d.some(), d.some())),
        "grid": T((b, d.some(), d.some(), 2), "unit"),
        "interpolation": d.int(0, 2),
        "padding": d.int(0, 2),
        "align_corners": d.pick(True, False),
    }


@sample("im2col")
def _im2col(d: Draw) -> Sample:
    return {
        "x": T((d.some(), d.some(), d.int(5, 7), d.int(5, 7))),
        "kernel": [d.int(1, 3), d.int(1, 3)],
        "dilation": [d.int(1, 2), d.int(1, 2)],
        "padding": [d.int(0, 1), d.int(0, 1)],
        "stride": [d.int(1, 2), d.int(1, 2)],
    }


@sample("col2im")
def _col2im(d: Draw) -> Sample:
    found = _im2col(d)
    image = found.pop("x")
    columns = torch.nn.functional.unfold(
        torch.empty(image.shape, device="meta"),
        found["kernel"],
        dilation=found["dilation"],
        padding=found["padding"],
        stride=found["stride"],
    )
    return {"x": T(tuple(columns.shape)), "size": list(image.shape[2:]), **found}


# ---------------------------------------------------------------- normalisation and attention


def _channel_parameters(d: Draw, c: int, present: bool = False) -> Sample:
    found = {"weight": T((c,)), "bias": T((c,)), "mean": T((c,)), "var": T((c,), "positive")}
    return {
        name: value if present and name in ("mean", "var") else d.maybe(value)
        for name, value in found.items()
    }


@sample("batch_norm")
def _batch_norm(d: Draw) -> Sample:
    c = d.some()
    return {
        "x": T((d.some(), c, *d.shape(0, 2, empty=False))),
        **_channel_parameters(d, c, present=True),
        "training": False,
        "momentum": 0.1,
        "eps": 1e-5,
        "cudnn": True,
    }


@sample("native_batch_norm")
def _native_batch_norm(d: Draw) -> Sample:
    found = _batch_norm(d)
    return {key: found[key] for key in ("x", "weight", "bias", "mean", "var", "momentum", "eps")}


@sample("instance_norm")
def _instance_norm(d: Draw) -> Sample:
    c = d.some()
    return {
        "x": T((d.some(), c, d.int(2, 4), *d.shape(0, 1, empty=False))),
        **_channel_parameters(d, c, present=True),
        "use_input_stats": True,
        "momentum": 0.1,
        "eps": 1e-5,
        "cudnn": True,
    }


@sample("layer_norm")
def _layer_norm(d: Draw) -> Sample:
    shape = d.shape(1, 2, empty=False)
    return {
        "x": T((*d.shape(0, 2), *shape)),
        "shape": list(shape),
        "weight": d.maybe(T(shape)),
        "bias": d.maybe(T(shape)),
    }


@sample("native_layer_norm")
def _native_layer_norm(d: Draw) -> Sample:
    return {**_layer_norm(d), "eps": 1e-5}


@sample("rms_norm")
def _rms_norm(d: Draw) -> Sample:
    found = _layer_norm(d)
    del found["bias"]
    return {**found, "eps": d.pick(None, 1e-6)}


@sample("group_norm")
def _group_norm(d: Draw) -> Sample:
    groups = d.int(1, 3)
    c = groups * d.int(1, 2)
    return {
        "x": T((d.some(), c, d.int(2, 4), *d.shape(0, 1, empty=False))),
        "groups": groups,
        "weight": d.maybe(T((c,))),
        "bias": d.maybe(T((c,))),
    }


@sample("native_group_norm")
def _native_group_norm(d: Draw) -> Sample:
    found = _group_norm(d)
    b, c, *positions = found["x"].shape
    count = 1
    for n in positions:
        count *= n
    return {**found, "batch": b, "channels": c, "positions": count, "eps": 1e-5}


@sample("softmax", "log_softmax", "cumsum", "cumprod", "logcumsumexp", "argsort", "sort")
def _along(d: Draw) -> Sample:
    shape = d.shape()
    return {"x": T(shape), "dim": d.dim(len(shape))}


@sample("sort_stable")
def _sort_stable(d: Draw) -> Sample:
    return {**_along(d), "stable": True}


@sample("cosine_similarity")
def _cosine(d: Draw) -> Sample:
    shape = d.shape(2, 3, empty=False)
    return {"x": T(shape), "y": T(d.under(shape)), "dim": d.dim(len(shape))}


@sample("attention")
def _attention(d: Draw) -> Sample:
    queries, keys, e, v = d.some(), d.some(), d.some(), d.some()
    batch = d.shape(0, 2, empty=False)
    if d.pick(True, False, False):
        groups, times = d.int(1, 2), d.int(1, 3)
        b = d.some()
        q, k = (b, groups * times), (b, groups)
        return {
            "query": T((*q, queries, e)),
            "key": T((*k, keys, e)),
            "value": T((*k, keys, v)),
            "enable_gqa": True,
        }
    found: Sample = {
        "query": T((*batch, queries, e)),
        "key": T((*batch, keys, e)),
        "value": T((*batch, keys, v)),
    }
    if d.pick(True, False):
        found["causal"] = True
    else:
        found["mask"] = d.maybe(T(d.pick((queries, keys), (*batch, queries, keys))))
    return {**found, "scale": d.pick(None, 0.5)}


@sample("prelu")
def _prelu(d: Draw) -> Sample:
    shape = d.shape(0, 4)
    return {"x": T(shape), "weight": T((d.pick(1, shape[1] if len(shape) > 1 else 1),))}


@sample("glu")
def _glu(d: Draw) -> Sample:
    shape = list(d.shape(1, 3))
    dim = d.dim(len(shape))
    shape[dim] *= 2
    return {"x": T(tuple(shape)), "dim": dim}


# ---------------------------------------------------------------- pointwise and elementwise

_ROLES = {
    "sqrt": "positive", "rsqrt": "positive", "log": "positive", "log2": "positive", "log10": "positive",
    "log1p": "positive", "asin": "unit", "acos": "unit", "atanh": "unit", "erfinv": "unit", "acosh": "above",
    "logit": "unit", "bitwise_not": "whole", "bernoulli": "share",
}  # fmt: skip
_ATTRIBUTES: dict[str, Sample] = {
    "threshold": {"bound": 0.5, "value": -1.0},
    "clamp": {"min": -0.5, "max": 1.0},
    "cast": {"dtype": torch.float32},
    "logit": {"eps": 0.1},
    "dropout": {"p": 0.5, "train": False},
    "feature_dropout": {"p": 0.5, "train": False},
    "alpha_dropout": {"p": 0.5, "train": False},
    "native_dropout": {"p": 0.5, "train": True},
    "full_like": {"value": 2.0},
    "fill": {"value": 2.0},
}


def _like(op: Operator) -> Callable[[Draw], Sample]:
    def draw(d: Draw) -> Sample:
        return {"x": T(d.shape(), _ROLES.get(op.name, "real")), **_ATTRIBUTES.get(op.name, {})}

    return draw


def _broadcast(op: Operator) -> Callable[[Draw], Sample]:
    bits, logic = op.name.startswith("bitwise"), op.name in ("where", "masked_fill")
    role = "whole" if bits else "positive" if op.name in ("pow", "addcdiv") else "real"

    def draw(d: Draw) -> Sample:
        shape = d.shape()
        found: Sample = {}
        for i, p in enumerate(op.operands):
            first = "condition" if op.name == "where" else "mask"
            own = "bool" if logic and p.name == first else role
            found[p.name] = T(shape if i == 0 else d.under(shape), own)
            if p.kind == "value" and i > 0 and d.pick(True, False, False):
                found[p.name] = 3 if bits else 1.5
        if op.name == "masked_fill":
            found["value"] = d.pick(2.0, T(()))
        if op.name == "div_rounded":
            found["rounding_mode"] = d.pick("floor", "trunc")
        if op.name == "lerp":
            found["weight"] = d.pick(0.3, found["weight"])
        if op.name == "clamp_tensor":
            absent = d.pick("min", "max", None)
            if absent:
                found[absent] = None
        return found

    return draw


for _name, _op in OPERATORS.items():
    if _op.result == "like" and _name not in ("bucketize",):
        SAMPLES.setdefault(_name, _like(_op))
    if _op.result in ("broadcast", "masked_fill"):
        SAMPLES.setdefault(_name, _broadcast(_op))

SAMPLES["native_dropout"] = _like(OPERATORS["native_dropout"])


@sample("feature_dropout")
def _feature_dropout(d: Draw) -> Sample:
    return {"x": T(d.shape(2, 4)), "p": 0.5, "train": False}


@sample("bucketize")
def _bucketize(d: Draw) -> Sample:
    return {"x": T(d.shape()), "boundaries": T((d.some(),))}


@sample("copy")
def _copy(d: Draw) -> Sample:
    shape = d.shape()
    return {"x": T(shape), "source": T(d.under(shape))}


# ---------------------------------------------------------------- reductions


@sample("sum", "mean", "amax", "amin", "var", "std", "var_mean", "norm", "any", "all")
def _reduce(d: Draw) -> Sample:
    shape = d.shape(empty=False)
    return {"x": T(shape), "dim": d.dims(len(shape)), "keepdim": d.pick(True, False)}


@sample("logsumexp")
def _reduce_named(d: Draw) -> Sample:
    shape = d.shape(1, 4)
    return {"x": T(shape), "dim": d.dims(len(shape), least=1), "keepdim": d.pick(True, False)}


@sample("prod", "argmax", "argmin", "max_and_index", "min_and_index")
def _reduce_one(d: Draw) -> Sample:
    shape = d.shape(empty=False)
    return {"x": T(shape), "dim": d.dim(len(shape)), "keepdim": d.pick(True, False)}


@sample("topk")
def _topk(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    dim = d.dim(len(shape))
    return {"x": T(shape), "k": d.int(0, shape[dim]), "dim": dim, "largest": d.pick(True, False)}


# ---------------------------------------------------------------- movement


@sample("reshape")
def _reshape(d: Draw) -> Sample:
    shape = d.shape()
    wanted = list(shape)
    d.random.shuffle(wanted)
    if len(wanted) > 1 and d.pick(True, False):
        wanted = [wanted[0] * wanted[1], *wanted[2:]]
    if wanted and 0 not in wanted and d.pick(True, False):
        wanted[d.int(0, len(wanted) - 1)] = -1
    return {"x": T(shape), "shape": wanted}


@sample("permute")
def _permute(d: Draw) -> Sample:
    shape = d.shape()
    order = d.random.sample(range(len(shape)), len(shape))
    return {"x": T(shape), "dims": [i - len(shape) if d.pick(True, False) else i for i in order]}


@sample("expand")
def _expand(d: Draw) -> Sample:
    shape = d.shape()
    x = d.under(shape)
    added = len(shape) - len(x)
    wanted = [
        -1 if i >= added and x[i - added] == n and d.pick(True, False) else n for i, n in enumerate(shape)
    ]
    return {"x": T(x), "shape": wanted}


@sample("squeeze", "flip")
def _axes(d: Draw) -> Sample:
    shape = d.shape()
    return {"x": T(shape), "dims": d.dims(len(shape))}


@sample("unsqueeze")
def _unsqueeze(d: Draw) -> Sample:
    shape = d.shape()
    return {"x": T(shape), "dim": d.dim(len(shape) + 1)}


@sample("concat")
def _concat(d: Draw) -> Sample:
    shape = d.shape(1, 4)
    dim = d.dim(len(shape))
    at = dim % len(shape)
    shapes = [(*shape[:at], d.size(), *shape[at + 1 :]) for _ in range(d.int(1, 3))]
    return {"tensors": [T(s) for s in shapes], "dim": dim}


@sample("stack")
def _stack(d: Draw) -> Sample:
    shape = d.shape(0, 3)
    return {"tensors": [T(shape)] * d.int(1, 3), "dim": d.dim(len(shape) + 1)}


@sample("split")
def _split(d: Draw) -> Sample:
    sizes = [d.size() for _ in range(d.int(1, 3))]
    shape = list(d.shape(1, 3))
    dim = d.dim(len(shape))
    shape[dim] = sum(sizes)
    return {"x": T(tuple(shape)), "sizes": sizes, "dim": dim}


@sample("unbind")
def _unbind(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    return {"x": T(shape), "dim": d.dim(len(shape))}


@sample("slice")
def _slice(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    return {
        "x": T(shape),
        "dim": d.dim(len(shape)),
        "start": d.maybe(d.int(-6, 6)),
        "end": d.maybe(d.pick(d.int(-6, 6), 2**63 - 1)),
        "step": d.int(1, 3),
    }


@sample("select")
def _select(d: Draw) -> Sample:
    shape = d.shape(1, 3, empty=False)
    dim = d.dim(len(shape))
    return {"x": T(shape), "dim": dim, "index": d.int(-shape[dim], shape[dim] - 1)}


@sample("pad")
def _pad(d: Draw) -> Sample:
    mode = d.pick("constant", "constant", "reflect", "replicate", "circular")
    if mode == "constant":
        shape = d.shape(1, 3, empty=False)
        pads = d.int(0, len(shape))
        return {"x": T(shape), "pad": [d.int(0, 2) for _ in range(2 * pads)], "value": d.pick(None, 0.0)}
    pads = d.int(1, 2)
    shape = (*d.pick((), (d.some(),)), d.some(), *(d.int(3, 5) for _ in range(pads)))
    return {"x": T(shape), "pad": [d.int(0, 2) for _ in range(2 * pads)], "mode": mode}


@sample("roll")
def _roll(d: Draw) -> Sample:
    shape = d.shape()
    dims = d.dims(len(shape))
    return {"x": T(shape), "shifts": [d.int(-3, 3) for _ in dims] or [d.int(-3, 3)], "dims": dims}


@sample("rot90")
def _rot90(d: Draw) -> Sample:
    shape = d.shape(2, 4)
    return {"x": T(shape), "k": d.int(-5, 5), "dims": d.random.sample(range(len(shape)), 2)}


@sample("repeat")
def _repeat(d: Draw) -> Sample:
    shape = d.shape(0, 3)
    return {"x": T(shape), "repeats": [d.int(0, 3) for _ in range(len(shape) + d.int(0, 1))]}


@sample("repeat_interleave")
def _repeat_interleave(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    return {"x": T(shape), "repeats": d.int(0, 3), "dim": d.maybe(d.dim(len(shape)))}


@sample("pixel_shuffle")
def _pixel_shuffle(d: Draw) -> Sample:
    f = d.int(1, 3)
    return {"x": T((*d.shape(0, 2, empty=False), d.some() * f * f, d.some(), d.some())), "factor": f}


@sample("pixel_unshuffle")
def _pixel_unshuffle(d: Draw) -> Sample:
    f = d.int(1, 3)
    return {"x": T((*d.shape(0, 2, empty=False), d.some(), d.some() * f, d.some() * f)), "factor": f}


@sample("channel_shuffle")
def _channel_shuffle(d: Draw) -> Sample:
    groups = d.int(1, 3)
    return {"x": T((d.some(), groups * d.some(), d.some(), d.some())), "groups": groups}


@sample("tril", "triu")
def _triangle(d: Draw) -> Sample:
    return {"x": T(d.shape(2, 4)), "diagonal": d.int(-2, 2)}


@sample("diagonal")
def _diagonal(d: Draw) -> Sample:
    shape = d.shape(2, 4)
    first, second = d.random.sample(range(len(shape)), 2)
    return {"x": T(shape), "offset": d.int(-2, 2), "dim1": first, "dim2": second - len(shape)}


@sample("diag_embed")
def _diag_embed(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    first, second = d.random.sample(range(len(shape) + 1), 2)
    return {"x": T(shape), "offset": d.int(-2, 2), "dim1": first, "dim2": second}


@sample("unfold")
def _unfold(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    dim = d.dim(len(shape))
    return {"x": T(shape), "dim": dim, "size": d.int(0, shape[dim]), "step": d.int(1, 3)}


# ---------------------------------------------------------------- indexing


@sample("embedding")
def _embedding(d: Draw) -> Sample:
    v = d.some()
    return {"weight": T((v, d.size())), "indices": T(d.shape(0, 3), "index", v)}


@sample("gather")
def _gather(d: Draw) -> Sample:
    shape = d.shape(1, 3, empty=False)
    dim = d.dim(len(shape))
    index = [d.int(0, n) for n in shape]
    index[dim] = d.size()
    return {"x": T(shape), "dim": dim, "index": T(tuple(index), "index", shape[dim])}


@sample("take_along_dim")
def _take_along_dim(d: Draw) -> Sample:
    shape = d.shape(1, 3, empty=False)
    dim = d.dim(len(shape))
    index = [d.pick(1, n) for n in shape]
    index[dim] = d.some()
    return {"x": T(shape), "index": T(tuple(index), "index", shape[dim]), "dim": dim}


@sample("index_select")
def _index_select(d: Draw) -> Sample:
    shape = d.shape(1, 3, empty=False)
    dim = d.dim(len(shape))
    return {"x": T(shape), "dim": dim, "index": T((d.size(),), "index", shape[dim])}


@sample("index")
def _index(d: Draw) -> Sample:
    shape = d.shape(1, 4, empty=False)
    chosen = d.shape(0, 2)
    count = d.int(1, len(shape))
    given = set(d.random.sample(range(count), d.int(1, count)))
    indices = [T(d.under(chosen), "index", n) if i in given else None for i, n in enumerate(shape[:count])]
    return {"x": T(shape), "indices": indices}


@sample("index_put")
def _index_put(d: Draw) -> Sample:
    found = _index(d)
    return {**found, "values": T(()), "accumulate": d.pick(True, False)}


@sample("index_add", "index_copy")
def _index_add(d: Draw) -> Sample:
    found = _index_select(d)
    shape = list(found["x"].shape)
    shape[found["dim"]] = found["index"].shape[0]
    return {**found, "source": T(tuple(shape))}


@sample("index_fill")
def _index_fill(d: Draw) -> Sample:
    return {**_index_select(d), "value": d.pick(1.5, T(()))}


@sample("scatter", "scatter_add", "scatter_reduce")
def _scatter(d: Draw) -> Sample:
    found = _gather(d)
    shape = found["index"].shape
    return {**found, "source": T(tuple(n + d.int(0, 1) for n in shape))}


SAMPLES["scatter_reduce"] = lambda d: {**_scatter(d), "reduce": d.pick("sum", "prod", "mean", "amax", "amin")}
SAMPLES["scatter"] = lambda d: {**(found := _scatter(d)), "source": d.pick(2.0, found["source"])}


@sample("slice_scatter")
def _slice_scatter(d: Draw) -> Sample:
    found = _slice(d)
    shape, dim = list(found["x"].shape), found["dim"]
    shape[dim] = len(range(shape[dim])[slice(found["start"], found["end"], found["step"])])
    return {**found, "source": T(tuple(shape))}


@sample("select_scatter")
def _select_scatter(d: Draw) -> Sample:
    found = _select(d)
    shape = list(found["x"].shape)
    del shape[found["dim"]]
    return {**found, "source": T(tuple(shape))}


@sample("masked_scatter")
def _masked_scatter(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    return {"x": T(shape), "mask": T(d.under(shape), "bool"), "source": T((200,))}


@sample("one_hot")
def _one_hot(d: Draw) -> Sample:
    return {"x": T(d.shape(), "index", 4), "classes": 4}


# ---------------------------------------------------------------- creation, recurrence


@sample("arange")
def _arange(d: Draw) -> Sample:
    step = d.pick(1, 2, -1, 0.5, 0.3)
    way = d.int(0, 9)
    start = d.int(-3, 3)
    return {"start": start, "end": start + way if step > 0 else start - way, "step": step}


@sample("linspace")
def _linspace(d: Draw) -> Sample:
    return {"start": -1.0, "end": 2.0, "steps": d.int(0, 6)}


@sample("zeros", "ones", "empty", "rand", "randn")
def _sized(d: Draw) -> Sample:
    return {"size": list(d.shape())}


@sample("full")
def _full(d: Draw) -> Sample:
    return {"size": list(d.shape()), "value": 1.5}


@sample("new_zeros", "new_ones", "new_empty")
def _new(d: Draw) -> Sample:
    return {"x": T(d.shape()), "size": list(d.shape())}


SAMPLES["new_full"] = lambda d: {**_new(d), "value": 2.0}
SAMPLES["eye"] = lambda d: {"n": d.size(), "m": d.size()}
SAMPLES["scalar_tensor"] = lambda d: {"value": 1.5}


@sample("meshgrid")
def _meshgrid(d: Draw) -> Sample:
    return {"tensors": [T(d.shape(0, 1)) for _ in range(d.int(1, 3))], "indexing": d.pick("ij", "xy")}


def _layers(d: Draw, gates: int, projected: bool = False) -> tuple[Sample, tuple[int, ...], int, list[T]]:
    layers, directions, biases, first = d.int(1, 2), d.int(1, 2), d.pick(True, False), d.pick(True, False)
    width, hidden, batch = d.some(), d.some(), (d.some(),)
    time = d.some()
    out = d.some() if projected else hidden
    x = (*batch, time, width) if first else (time, *batch, width)
    weights = []
    for layer in range(layers):
        for _ in range(directions):
            given = width if layer == 0 else out * directions
            weights += [T((gates * hidden, given)), T((gates * hidden, out))]
            weights += [T((gates * hidden,))] * 2 if biases else []
            weights += [T((out, hidden))] if projected else []
    attributes = {
        "has_biases": biases,
        "num_layers": layers,
        "dropout": 0.0,
        "train": False,
        "bidirectional": directions == 2,
        "batch_first": first,
    }
    states = (layers * directions, *batch)
    return {"x": T(x), **attributes}, states, out, [*weights, T((hidden,))]


@sample("lstm")
def _lstm(d: Draw) -> Sample:
    found, state, out, (*weights, hidden) = _layers(d, 4)
    return {**found, "states": [T((*state, out)), T((*state, *hidden.shape))], "weights": weights}


@sample("gru")
def _gru(d: Draw) -> Sample:
    found, state, out, (*weights, _) = _layers(d, 3)
    return {**found, "state": T((*state, out)), "weights": weights}


@sample("rnn_tanh", "rnn_relu")
def _rnn(d: Draw) -> Sample:
    found, state, out, (*weights, _) = _layers(d, 1)
    return {**found, "state": T((*state, out)), "weights": weights}


@sample("size")
def _size(d: Draw) -> Sample:
    shape = d.shape(1, 3)
    return {"x": T(shape), "dim": d.dim(len(shape))}


SAMPLES["item"] = lambda d: {"x": T(d.pick((), (1,), (1, 1)))}
