"""One call for people who want nothing else: a model in, a smaller trainable model out."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
from torch import Tensor, fx

from tdsl.capture.captured import ModelLike
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.errors import TdslError
from tdsl.factor.rank import Ratio
from tdsl.lang import parse
from tdsl.plan.choose import Unreachable
from tdsl.plan.loss import Function
from tdsl.prepare import prepare, require_kinds
from tdsl.reporting import unfactorized
from tdsl.samples import Batch, listed

_RULES = (
    "linear.svd_linear",
    "conv.spatial_svd",
    "conv.channel_svd",
    "conv1d.channel_svd_1d",
    "conv3d.spatial_svd_3d",
    "conv3d.channel_svd_3d",
    "conv_grouped.grouped_channel_svd",
    "conv_grouped.grouped_channel_svd_1d",
    "conv_transpose.spatial_svd_transposed",
    "conv_transpose.channel_svd_transposed",
    "conv_transpose.input_svd_transposed_1d",
    "conv_transpose.input_svd_transposed_3d",
    "recurrent.svd_*",
    "recurrent_both.svd_*",
    "recurrent_projected.svd_*",
    "embedding.svd_embedding",
    "embedding.tied_embedding",
)
"""With nothing but the weights, the truncations that are optimal for each of them; of two for one kind of
layer the second is for where the first saves no operations, as with strides. Depthwise kernels are small
already.
"""
_WITHOUT_DATA = f"""
pipeline factorize(rank: Rank) {{
    once cleanup.fold_constants  // weights that are computed, as by weight_norm
    repeat layout.linear.*, layout.contractions until stable  // products with weights are layers
    once layout.recurrent_cells
    once layout.recurrent_layers
    once {", ".join(f"factorize.{rule}(rank=rank)" for rule in _RULES)}
    check error <= 100%
}}
"""

_OWN_TEXTS = ("factorize", "compact.tdsl")
"""Texts that the caller has not written and that errors do not point into."""
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def factorize(
    model: ModelLike,
    args: tuple[Any, ...] | Tensor,
    kwargs: Mapping[str, Any] | None = None,
    *,
    rank: Any = 0.5,
    calibration: Iterable[Batch] | None = None,
    loss: str | Function | None = None,
    dynamic_shapes: Any = None,
) -> fx.GraphModule:
    """`model` with its weights replaced by products of smaller ones, as a trainable module.

    `rank` is what the language takes for one (`64`, `0.5`, `"energy(0.9)"`): a ratio is the share of the
    numbers that each factorized layer keeps, so that `1.0` changes none. With `calibration` inputs `rank` is
    a ratio, the share of the whole model's parameters; where they go is planned by their effect on the
    output, and what is left is solved anew by least squares (the pipeline `pipelines.compact`); `loss` is
    what their labels are for, as for `tdsl.compile`, which also verifies and writes. A warning says where
    nothing became smaller, and of calibration data that are few.

    Raises:
        TdslError: the model does not trace, there is no such rank or no plan of that size, or samples do not
            fit the model.
    """
    require_kinds(calibration=(calibration, (Iterable, NoneType)))
    data = [] if calibration is None else listed(calibration, args)
    if isinstance(rank, Tensor | np.generic) and rank.ndim == 0:
        rank = rank.item()
    if data:
        rank = _share(rank)
    library = Library()
    library.add_file(parse(_WITHOUT_DATA, "factorize"), "")
    journal = Journal()
    try:
        prepared = prepare(
            model,
            args,
            kwargs,
            dynamic_shapes=dynamic_shapes,
            pipeline="pipelines.compact" if data else "factorize",
            parameters={"size": rank} if data else {"rank": rank},
            rules=library,
            calibration=data,
            loss=loss,
            verified=False,
        )
        module = copied(prepared.captured.module)
        if not data and _is_all(rank):
            return module.eval()
        prepared.runner.run(module, journal)
    except Unreachable as told:
        raise _too_small(rank, told.least) from None
    except TdslError as told:
        if told.span is None or Path(told.span.source.name).name not in _OWN_TEXTS:
            raise
        raise TdslError(told.message, expected=told.expected, hint=told.hint) from None
    if not _is_all(rank) and not any(entry.rule.startswith("factorize.") for entry in journal.entries):
        warnings.warn(
            f"no layer of the model would be smaller at rank={rank!r}: none was changed", stacklevel=2
        )
    if stay := unfactorized(prepared.captured.module, module):
        warnings.warn(stay, stacklevel=2)
    for caution in prepared.planner.cautions():
        warnings.warn(caution, stacklevel=2)
    return module.eval()  # as it was captured: nothing is dropped, and statistics stay


def _too_small(share: float, least: float) -> TdslError:
    """What is wrong with a share of the model's parameters that its layers cannot be brought down to."""
    asked = f"`rank={share:g}` asks for {100 * share:g}% of the model's parameters, but"
    if least >= 1:
        return TdslError(
            f"{asked} no layer of it can be factorized",
            expected="dense, convolutional or recurrent layers, embeddings, attention large enough",
        )
    return TdslError(
        f"{asked} {100 * least:.3g}% are left when every layer is as small as it can be made",
        expected=f"a `rank` of {math.ceil(100 * least) / 100:g} or more",
        hint="the share is one of all parameters: those of layers that are not factorized count as well",
    )


def _is_all(rank: Any) -> bool:
    """Whether a rank is a ratio that keeps all numbers. The integer 1 is a rank of one."""
    value = _ratio(rank)
    return isinstance(value, float) and value == 1


def _ratio(rank: Any) -> Any:
    """A rank that is a ratio as a number; any other one as it is."""
    if isinstance(rank, Ratio):
        return rank.fraction
    if isinstance(rank, str) and (found := _PERCENT.fullmatch(rank)):
        return float(found[1]) / 100
    return rank


def _share(rank: Any) -> float:
    """What a rank says of a whole model. Raises `TdslError` for what is no ratio."""
    value = _ratio(rank)
    if not isinstance(value, float) or not 0 < value <= 1:
        raise TdslError(
            f"with calibration data {rank!r} is no rank: it is a share of the model's parameters",
            expected="a ratio such as 0.5 or `50%`",
        )
    return value
