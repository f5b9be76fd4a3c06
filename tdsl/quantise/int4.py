"""`int4`: weights in four bits, a scale for each block of an output's inputs."""

from __future__ import annotations

from tdsl.quantise.declare import Scheme, Stored, Weight
from tdsl.quantise.int8 import BLOCK
from tdsl.quantise.uniform import Levels, best_uniform

FOUR = Levels(4, (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6))


def store_int4(weight: Weight, block: int, error: float, fused: bool) -> Stored | None:
    """A map in four bits; `None` for what is no map, and where more than `error` would be lost."""
    if weight.rows_first is None:
        return None
    return best_uniform(weight, FOUR, block, error, fused)


DECLARED = (
    Scheme(
        "int4",
        "block: Int = 32, error: Ratio = 20%, fused: Bool = false",
        store_int4,
        "Weights of layers and embeddings in four bits, a scale of sixteen for every `block` inputs of an "
        "output. With calibration data rounding errors are fed to later inputs where that loses less. A "
        "weight that would lose more than `error` stays as it is. `fused` leaves products to the runtime, "
        "which may round their inputs to eight bits.",
        "Frantar et al., 2022",
        opset=lambda given: 21,
        limits={"block": BLOCK},
        by_data=True,
    ),
)
