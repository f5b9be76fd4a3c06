"""`int8`: weights in eight bits, a scale for each output."""

from __future__ import annotations

from tdsl.quantise.declare import Limit, Scheme, Stored, Weight
from tdsl.quantise.uniform import Levels, best_uniform

EIGHT = Levels(8, (1.0, 0.97, 0.94, 0.9, 0.85, 0.8))

SMALLEST_BLOCK = 8
"""A scale for fewer codes would take as much as they do."""

BLOCK = Limit(lambda block: block >= SMALLEST_BLOCK, f"at least {SMALLEST_BLOCK} inputs to a scale")


def store_int8(weight: Weight, block: int | None, error: float, fused: bool) -> Stored | None:
    """A map in eight bits; `None` for what is no map, and where more than `error` would be lost."""
    if weight.rows_first is None:
        return None
    return best_uniform(weight, EIGHT, block, error, fused)


DECLARED = (
    Scheme(
        "int8",
        "block: Int = none, error: Ratio = 2%, fused: Bool = false",
        store_int8,
        "Weights of layers and embeddings in eight bits, a scale for each output, or for every `block` of "
        "its inputs. With calibration data rounding errors are fed to later inputs where that loses less. A "
        "weight that would lose more than `error` stays as it is. `fused` leaves products to the runtime, "
        "which may round their inputs to eight bits, and looks rows of tables up as codes.",
        "Frantar et al., 2022",
        opset=lambda given: 21 if given["fused"] and given["block"] else 18,
        limits={"block": BLOCK},
        by_data=True,
    ),
)
