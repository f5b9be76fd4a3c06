"""Residual streams of a graph: what writes, reads and normalises them, and why one cannot be narrowed.

A stream is a hidden axis along which values are normalised. Where everything that touches it passes an
orthogonal matrix on, a matrix Q [d, k] with orthonormal columns can be folded into all of its weights: what
the stream holds in the span of Q is kept (slicing by principal components, SliceGPT: Ashkboos et al., 2024;
by a transport map, DOTResize, 2025). A norm of k coordinates has to be told that it was one of d.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from tdsl.capture.normal import attribute
from tdsl.ops.targets import operator_of
from tdsl.symmetry.hidden.gauge import passes_on
from tdsl.symmetry.hidden.infer import Inference, infer
from tdsl.symmetry.hidden.layout import Atom, atoms_in
from tdsl.symmetry.hidden.merging import set_weight
from tdsl.symmetry.hidden.pins import Pin
from tdsl.symmetry.hidden.resizing import resize
from tdsl.symmetry.hidden.roles import argument, places_of, touches

NORMS = ("rms_norm", "layer_norm")
_KEEPS = frozenset(
    ["add", "sub", "neg", "reshape", "permute", "expand", "squeeze", "unsqueeze", "contiguous", "detach"]
) | {"dropout", "slice", "select", "concat"}
"""Of values of mean zero along an axis they make values of mean zero."""
_RESULT = {"rms_norm": 3, "layer_norm": 4}
"""The position of the small summand of a norm."""


@dataclass(frozen=True)
class Stream:
    """A hidden axis of `size` channels with `norms` along it; `refused` says what sees single ones."""

    inference: Inference
    atom: int
    name: str
    """The first weight that it stands in."""
    size: int
    norms: tuple[fx.Node, ...]
    nodes: tuple[fx.Node, ...]
    """Every operator that touches it, in graph order."""
    refused: Pin | None

    @property
    def centred(self) -> bool:
        """Whether its norms subtract the mean, so that nothing is lost of a stream without it."""
        return any(_name(norm) == "layer_norm" for norm in self.norms)

    @property
    def read(self) -> tuple[fx.Node, ...]:
        """What is normalised, each value once; the stream is along the last axis."""
        return tuple(dict.fromkeys(norm.args[0] for norm in self.norms))  # type: ignore[misc]


def streams(module: fx.GraphModule) -> list[Stream]:
    """The residual streams of a graph in normal form. Raises `TdslError` where the graph has no shapes."""
    inference = infer(module)
    norms: dict[int, list[fx.Node]] = {}
    for node in module.graph.nodes:
        if _name(node) in NORMS and len(argument(node, operator_of(node.target), "shape")) == 1:  # type: ignore[arg-type]
            layout = inference.axes(node)[-1]
            for atom in set(atoms_in(layout)):
                norms.setdefault(atom, []).append(node)
    found = []
    for atom, along in norms.items():
        touched = tuple(
            node
            for node in module.graph.nodes
            if node.op == "call_function" and touches(inference, node, atom)
        )
        size = inference.system.size(Atom(atom))
        weights = [n for node in touched for n in node.all_input_nodes if n.op == "get_attr"]
        first = next((w for w in weights if places_of(inference, w, atom)), along[0])
        stream = Stream(inference, atom, str(first.target), size, tuple(along), touched, None)
        found.append(replace(stream, refused=_refusal(stream)))
    return found


def narrowed(stream: Stream, basis: Tensor, gain: fx.Node) -> None:
    """Fold Q [d, k] into every weight of a stream, in place, so that it has k channels.

    `gain` reads a weight [k] of the number √(d/k): a norm of x·Q divides by √k where that of x divides by √d.
    """
    inference, k = stream.inference, basis.shape[1]
    module = inference.module
    changed: set[fx.Node] = {gain}
    for weight in inference.weights():
        for axis, layout in enumerate(inference.axes(weight)):
            if layout == Atom(stream.atom):
                values = attribute(module, str(weight.target)).detach()
                turned = torch.tensordot(values.double(), basis, dims=([axis], [0])).movedim(-1, axis)
                set_weight(module, weight, turned.to(values.dtype))
                changed.add(weight)
    for norm in stream.norms:
        eps = _eps(norm) * stream.size / k
        norm.target = torch.ops.aten.rms_norm.default
        norm.args = (norm.args[0], [k], gain, eps)
    resize(inference, stream.atom, k, changed)


def _eps(norm: fx.Node) -> float:
    """The small summand under the root; that of the element type where none is given."""
    position = _RESULT[_name(norm)]
    given = norm.args[position] if len(norm.args) > position else norm.kwargs.get("eps")
    if given is None:
        given = 1e-5 if _name(norm) == "layer_norm" else torch.finfo(norm.meta["val"].dtype).eps
    return float(given)  # type: ignore[arg-type]


def _refusal(stream: Stream) -> Pin | None:
    """The first operator, or weight, for which a narrower stream would not be the same one."""
    inference, atom = stream.inference, stream.atom
    for weight in inference.weights():
        for layout in inference.axes(weight):
            if atom in set(atoms_in(layout)) and layout != Atom(atom):
                return Pin(weight, "the stream is only a part of an axis of this weight")
    zero_mean: set[fx.Node] = set()
    for node in stream.nodes:
        reason = _reason(stream, node, zero_mean)
        if reason is not None:
            return Pin(node, reason)
    pin = inference.system.pin_of(atom)
    return pin


def _reason(stream: Stream, node: fx.Node, zero_mean: set[fx.Node]) -> str | None:
    """Why an operator cannot do with a narrower stream; notes values that had mean zero before."""
    inference, atom, name = stream.inference, stream.atom, _name(node)
    op = operator_of(node.target)
    if op is None:
        return f"{node.target} is not known"
    if node in stream.norms:
        if argument(node, op, "weight") is not None or (op.param("bias") and argument(node, op, "bias")):
            folds = "`repeat narrow.norms.*` folds it into dense layers that read it"
            return f"its gain is in the stream; {folds}, where their weights are used once"
        x = node.args[0]
        last = inference.axes(x)[-1:] == (Atom(atom),)  # type: ignore[arg-type]
        if not last or places_of(inference, x, atom) != [len(inference.axes(x)) - 1]:  # type: ignore[arg-type]
            return "it normalises more than the stream"
        if name == "layer_norm":
            zero_mean.add(node)
        return None
    if not passes_on(inference, node, op, atom)[1]:
        return f"{name} sees single channels of the stream"
    having = [n for n in node.all_input_nodes if places_of(inference, n, atom) and n.op != "get_attr"]
    if name in _KEEPS and having and zero_mean.issuperset(having):
        zero_mean.add(node)
    leaves = having and not places_of(inference, node, atom)
    makes = bool(having) and name in ("linear", "addmm", "matmul", "attention")
    if stream.centred and (leaves or makes) and not zero_mean.issuperset(having):
        return f"{name} reads the stream with its mean, which layer norms do not see"
    return None


def _name(node: fx.Node) -> str:
    op = operator_of(node.target) if node.op == "call_function" else None
    return op.name if op is not None else ""
