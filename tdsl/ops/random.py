"""What draws random numbers."""

from __future__ import annotations

from tdsl.ops.spec import Operator, operator

_PLACE = "dtype: dtype = None, layout: any = None, device: any = None, pin_memory: any = None"


def _dropout(name: str, doc: str, torch: str = "") -> Operator:
    return operator(
        f"{name}(x, p: float, train: bool) -> like",
        aten=f"aten.{name}.default",
        torch=torch,
        random=True,
        doc=doc,
    )


RANDOM = (
    _dropout(
        "dropout",
        "In training, each element zero with probability p, the others divided by 1 - p; otherwise x.",
        torch="F.dropout torch.dropout",
    ),
    _dropout("feature_dropout", "In training, whole channels dropped; otherwise x."),
    _dropout(
        "alpha_dropout", "In training, dropout that keeps mean and variance of selu's outputs; otherwise x."
    ),
    operator(
        "native_dropout(x, p: float, train: bool) -> like_two",
        aten="aten.native_dropout.default",
        results=2,
        random=True,
        doc="dropout as decomposed: the result, and the mask of what was kept.",
    ),
    operator(
        f"rand(size: shape, *, {_PLACE}) -> sized",
        aten="aten.rand.default",
        random=True,
        doc="Uniform on [0, 1).",
    ),
    operator(
        f"randn(size: shape, *, {_PLACE}) -> sized",
        aten="aten.randn.default",
        random=True,
        doc="Standard normal.",
    ),
    operator(
        f"rand_like(x, *, {_PLACE}, memory_format: any = None) -> like",
        aten="aten.rand_like.default",
        random=True,
        doc="Uniform on [0, 1), in the shape of x.",
    ),
    operator(
        f"randn_like(x, *, {_PLACE}, memory_format: any = None) -> like",
        aten="aten.randn_like.default",
        random=True,
        doc="Standard normal, in the shape of x.",
    ),
    operator(
        "bernoulli(x, *, generator: any = None) -> like",
        aten="aten.bernoulli.default",
        random=True,
        doc="1 with the probability that x names, else 0.",
    ),
)
