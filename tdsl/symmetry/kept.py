"""The symmetries that a pipeline checks: of the rewritten graph before it is emitted, and of its file.

The graph is audited in float64, operator by operator, so that the one which breaks a symmetry can be named;
the file is certified as onnxruntime runs it. A model whose outputs hardly vary keeps every symmetry, and is
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import onnx
from torch import fx

from tdsl.capture import Captured
from tdsl.errors import Span, TdslError
from tdsl.symmetry.audit import Audit, Element, Layer, audit
from tdsl.symmetry.certify import Certificate, certificate
from tdsl.symmetry.contract import Contract
from tdsl.symmetry.infer import Fallback
from tdsl.verify.runner import Tensors


class BrokenSymmetry(TdslError):
    """A graph or a file does not keep a symmetry that its pipeline checks, or keeps it for no reason."""


@dataclass(frozen=True)
class Kept:
    """A symmetry that graph and file were measured to keep."""

    audit: Audit
    certificate: Certificate

    def __str__(self) -> str:
        """In a line."""
        found = ", ".join(
            f"{one.defect:.1e} in the file ({one.runtime}, {one.precision})"
            for one in self.certificate.measurements
        )
        return (
            f"{self.audit.contract} ({self.audit.group}) is kept: defect {self.audit.defect:.1e} in the"
            f" graph, {found}; tolerance {self.audit.tolerance:.1e}"
        )


def require_kept_by_graph(
    captured: Captured,
    module: fx.GraphModule,
    contract: Contract,
    span: Span,
    *,
    fallback: Fallback | None = None,
    blame: Callable[[Callable[[fx.GraphModule], bool]], str] = lambda broken: "",
) -> Audit:
    """The audit of what a captured model was rewritten into.

    `blame` is asked which rewrite breaks the symmetry, given what judges a module. Raises `BrokenSymmetry`
    with the operator at which it breaks, and `TdslError` where the contract does not fit the model.
    """
    found = audit_of(captured, module, contract, fallback)
    if found.verdict == "kept":
        return found
    if found.verdict == "vacuous":
        raise BrokenSymmetry(_vacuous(f"the rewritten graph keeps {contract.name}", found.control), span)
    if audit_of(captured, captured.module, contract, fallback).verdict == "broken":
        guilty = "the model as it was given does not keep it either"
    else:
        guilty = blame(lambda one: audit_of(captured, one, contract, fallback).verdict == "broken")
    raise BrokenSymmetry(
        f"the rewritten graph does not keep {contract.name} ({found.group}): defect {found.defect:.1e}",
        span,
        expected=f"at most {found.tolerance:.1e} under {_names(found.elements)}",
        hint="\n        ".join(part for part in (_where(found), guilty) if part),
    )


def require_kept_by_file(
    proto: onnx.ModelProto, contract: Contract, span: Span, given: Sequence[Tensors]
) -> Certificate:
    """The certificate of an emitted model, measured on `given` and on random inputs like them.

    Raises `BrokenSymmetry` where it is refused or vacuous.
    """
    found = certificate(proto, contract, given)
    if found.verdict == "certified":
        return found
    if found.verdict == "vacuous":
        control = min(one.control for one in found.measurements)
        raise BrokenSymmetry(_vacuous(f"the file keeps {contract.name}", control), span)
    wrong = next(one for one in found.measurements if not one.holds(found.tolerance))
    raise BrokenSymmetry(
        f"the file does not keep {contract.name} ({found.group}): defect {wrong.defect:.1e} in"
        f" {wrong.runtime}, {wrong.precision}",
        span,
        expected=f"at most {wrong.allowed(found.tolerance):.1e}",
        hint="the rewritten graph keeps it: weights were rounded (`quantize`), or the runtime differs",
    )


def audit_of(
    captured: Captured, module: fx.GraphModule, contract: Contract, fallback: Fallback | None
) -> Audit:
    """The audit of `module`, which a captured model was rewritten into.

    Raises `TdslError` where the contract does not fit the model.
    """
    return audit(replace(captured, module=module), contract, fallback=fallback)


def _vacuous(said: str, control: float) -> str:
    return f"{said} for no reason: another input's outputs are only {control:.1e} away"


def _names(elements: Sequence[Element]) -> str:
    return ", ".join(element.name for element in elements)


def _where(found: Audit) -> str:
    """The operator at which the symmetry breaks first, and why."""
    first = found.first_broken
    if first is None:
        reason = next((element.reason for element in found.elements if element.reason), "")
        return reason or "no single operator breaks it: defects add up"
    element, layer = first
    return f"{element.name} breaks first at {layer.operator}{_place(layer)}: {layer.why}"


def _place(layer: Layer) -> str:
    at = ", ".join(part for part in (layer.module or layer.node, layer.source) if part)
    return f" ({at})" if at else ""


__all__ = ["BrokenSymmetry", "Kept", "audit_of", "require_kept_by_file", "require_kept_by_graph"]
