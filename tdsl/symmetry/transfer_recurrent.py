"""Actions through recurrent layers: sequences of a batch may change places, steps and features may not."""

from __future__ import annotations

from tdsl.symmetry.action import action
from tdsl.symmetry.along import permutes
from tdsl.symmetry.transfer import Breaks, Law, Residual, Site, Value, distance, law, require_near, transfer


@transfer("lstm", "gru", "rnn_tanh", "rnn_relu")
def _recurrent(site: Site) -> Law:
    x: Value = site["x"]
    name = site.operator.name
    batch = 0 if site["batch_first"] else 1
    if x.rank != 3 or x.action.reorders or any(axis != batch for axis, _ in x.action.parts):
        raise Breaks(f"{name} commutes with permutations of its sequences only, not with {x.action}")
    part = x.action.part(batch)
    if part is not None and not permutes(part):
        raise Breaks(f"{name} commutes with permutations of its sequences only")
    states = site["states"] if name == "lstm" else [site["state"]]
    moved = action(3, {} if part is None else {1: part})  # a state is [layers, sequences, features]
    residual: Residual | None = None
    for state in states:
        if state.constant is None and state.action != moved:
            raise Breaks(f"the first state of {name} is not permuted as its sequences are")
        if state.constant is not None:
            off = distance(moved.apply(state.constant), state.constant)
            what = f"the first state of {name} differs between sequences"
            found = require_near(off, what)
            if not found.exact or float(state.constant.abs().max()) > 0:
                residual = found | (residual or Residual())
    if any(not weight.still for weight in site["weights"]):
        raise Breaks(f"the weights of {name} are acted on")
    return law(site, x.action, *[moved] * (len(site.shapes) - 1), residual=residual)
