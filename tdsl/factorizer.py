"""One call for people who want nothing else: a model in, a smaller trainable model out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, fx

from tdsl.capture.captured import ModelLike
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import Library
from tdsl.errors import TdslError
from tdsl.factor.rank import Ratio
from tdsl.lang import parse
from tdsl.prepare import Batch, prepare

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
    "recurrent.svd_lstm_input",
    "recurrent.svd_gru_input",
    "embedding.svd_embedding",
    "embedding.tied_embedding",
)
"""With nothing but the weights, the truncations that are optimal for each of them; of two for one kind of
layer the second is for where the first saves no operations, as with strides. Depthwise kernels are small
already.
"""
_WITHOUT_DATA = f"""
pipeline factorize(rank: Rank) {{
    once {", ".join(f"factorize.{rule}(rank=rank)" for rule in _RULES)}
    check error <= 100%
}}
"""

_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def factorize(
    model: ModelLike,
    args: tuple[Any, ...] | Tensor,
    kwargs: Mapping[str, Any] | None = None,
    *,
    rank: Any = 0.5,
    calibration: Iterable[Batch] = (),
    dynamic_shapes: Any = None,
) -> fx.GraphModule:
    """`model` with its weights replaced by products of smaller ones, as a trainable module.

    `rank` is what the language takes for one (`64`, `0.5`, `"energy(0.9)"`): a ratio is the share of the
    numbers that each factorized layer keeps. With `calibration` inputs `rank` is a ratio, the share of the
    whole model's parameters; where they go is planned by their effect on the output, and what is left is
    solved anew by least squares (the pipeline `pipelines.compact`). Nothing is verified or written: for that,
    `tdsl.compile`.

    Raises:
        TdslError: the model does not trace, or there is no such rank.
    """
    data = list(calibration)
    if data:
        rank = _share(rank)
    library = Library()
    library.add_file(parse(_WITHOUT_DATA, "factorize"), "")
    prepared = prepare(
        model,
        args,
        kwargs,
        dynamic_shapes=dynamic_shapes,
        pipeline="pipelines.compact" if data else "factorize",
        parameters={"size": rank} if data else {"rank": rank},
        rules=library,
        calibration=data,
        verified=False,
    )
    module = copied(prepared.captured.module)
    prepared.runner.run(module, Journal())
    return module


def _share(rank: Any) -> float:
    """What a rank says of a whole model. Raises `TdslError` for what is no ratio."""
    value = rank.fraction if isinstance(rank, Ratio) else rank
    if isinstance(value, str) and (found := _PERCENT.fullmatch(value)):
        value = float(found[1]) / 100
    if not isinstance(value, float) or not 0 < value <= 1:
        raise TdslError(
            f"with calibration data {rank!r} is no rank: it is a share of the model's parameters",
            expected="a ratio such as 0.5 or `50%`",
        )
    return value
