"""A whole model whose layers are projected onto a symmetry, each within a bound."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from tdsl.errors import TdslError
from tdsl.symmetry.group import Group
from tdsl.symmetry.impose.finite import changes_of
from tdsl.symmetry.impose.law import LawReport, drawn, examined, in_double
from tdsl.symmetry.impose.layers import Between, Nearest, nearest
from tdsl.symmetry.impose.moves import Moves, OneOrMany, listed


@dataclass(frozen=True, slots=True)
class Projected:
    """A layer whose weights were moved to the nearest ones that keep the law."""

    name: str
    distance: float
    """‖W − R(W)‖ / ‖W‖ in the Frobenius norm, over all its weights."""
    numbers: int
    """How many numbers it holds."""
    free: int
    """How many of them are free."""


@dataclass(frozen=True)
class Symmetrised:
    """A model with projected layers."""

    model: nn.Module
    """A copy; the original is as it was."""
    original: nn.Module
    group: Group
    layers: tuple[Projected, ...]
    untouched: tuple[str, ...]
    """Layers with weights that nothing was declared of."""

    def check(self, *inputs: Tensor, moves: OneOrMany, outputs: OneOrMany = None, seed: int = 0) -> LawReport:
        """The law of the whole model in float64: layers keep theirs, what lies between may break it.

        `moves` are those of the inputs. Control: the model as it was, which `without` shows.
        """
        changes = changes_of(self.group, listed(moves), listed(outputs))
        return examined(
            f"{self.group.name} in every layer",
            in_double(self.model),
            in_double(self.original),
            changes,
            drawn(inputs, seed),
            {},
        )

    def __str__(self) -> str:
        lines = [f"projected onto {self.group.name}:"]
        lines += [
            f"  {one.name}: moved by {one.distance:.2%}, {one.free} of {one.numbers} numbers are free"
            for one in self.layers
        ]
        if self.untouched:
            lines.append(f"  as they were: {', '.join(self.untouched)}")
        return "\n".join(lines)


def symmetrise(
    model: nn.Module,
    *,
    kernel: Moves | None = None,
    layers: Mapping[str, Between] | None = None,
    tolerance: float = 0.05,
) -> Symmetrised:
    """`model` with each of its layers replaced by the nearest one that keeps the law of a finite group.

    `kernel` moves images: every convolution of as many axes follows, its channels still unless declared.
    `layers` says for a linear layer, a convolution or a normalisation, by its path (`*` for any part), what
    the group does to the channels before and behind it. A layer that would have to move by more than
    `tolerance`, relative to its norm, is refused.

    Raises:
        TdslError: nothing is declared, a path names no layer, a representation does not fit, the bound is no
            share, or is exceeded.
    """
    if not tolerance >= 0:
        raise TdslError(f"a tolerance of {tolerance:g}", expected="a share of a norm, 0 or more")
    declared = dict(layers or {})
    group = _group(kernel, declared)
    copied = copy.deepcopy(model)
    modules = {name: part for name, part in copied.named_modules() if _own(part)}
    chosen = _chosen(modules, declared, kernel)
    found: list[Projected] = []
    done: dict[int, str] = {}
    with torch.no_grad():
        for name, between in chosen.items():
            replaced = nearest(modules[name], between, _follows(modules[name], kernel), group)
            found.append(_measured(name, modules[name], replaced))
            _write(name, modules[name], replaced, done)
    far = [one for one in found if not one.distance <= tolerance]
    if far:
        listing = ", ".join(f"{one.name or 'the model'} ({one.distance:.1%})" for one in far)
        raise TdslError(
            f"these layers are too far from {group.name}: {listing}",
            expected=f"at most {tolerance:.1%}",
            hint="a larger tolerance, fewer layers, or `GroupAverage`, which needs no bound",
        )
    return Symmetrised(copied, model, group, tuple(found), tuple(n for n in modules if n not in chosen))


def _group(kernel: Moves | None, declared: Mapping[str, Between]) -> Group:
    groups = [] if kernel is None else [kernel.group]
    for between in declared.values():
        groups += [one.group for one in (between.inputs, between.outputs) if one is not None]
    if not groups:
        raise TdslError("nothing moves", expected="`kernel`, or representations in `layers`")
    if any(one != groups[0] for one in groups):
        raise TdslError(
            f"several groups act ({', '.join(sorted({g.name for g in groups}))})", expected="one group"
        )
    if not groups[0].finite:
        raise TdslError(f"{groups[0].name} has infinitely many elements", expected="a finite group")
    return groups[0]


def _chosen(
    modules: Mapping[str, nn.Module], declared: Mapping[str, Between], kernel: Moves | None
) -> dict[str, Between]:
    """What is declared of each layer, in the order of the model; a later declaration wins."""
    chosen = {name: Between() for name, part in modules.items() if _follows(part, kernel) is not None}
    for path, between in declared.items():
        named = [name for name in modules if fnmatchcase(name, path)]
        if not named:
            raise TdslError(
                f"no layer with weights is called `{path}`", expected=f"one of {', '.join(modules)}"
            )
        chosen.update(dict.fromkeys(named, between))
    return {name: chosen[name] for name in modules if name in chosen}


def _follows(part: nn.Module, kernel: Moves | None) -> Moves | None:
    """The moves that a layer's kernel follows: those of images with as many axes."""
    if kernel is None or not isinstance(part, _ConvNd):
        return None
    return kernel if kernel.generators and kernel.generators[0].rank == part.weight.ndim else None


def _own(part: nn.Module) -> bool:
    return next(part.parameters(recurse=False), None) is not None


def _measured(name: str, part: nn.Module, replaced: Mapping[str, Nearest]) -> Projected:
    missed = total = 0.0
    for key, one in replaced.items():
        before = getattr(part, key).double()
        missed += float((before - one.values).square().sum())
        total += float(before.square().sum())
    return Projected(
        name,
        math.sqrt(missed / total) if total else 0.0,
        sum(one.values.numel() for one in replaced.values()),
        sum(one.free for one in replaced.values()),
    )


def _write(name: str, part: nn.Module, replaced: Mapping[str, Nearest], done: dict[int, str]) -> None:
    """The values into the layer. Raises `TdslError` where a weight is shared with a layer of another law."""
    for key, one in replaced.items():
        target = getattr(part, key)
        values = one.values.to(target)
        if id(target) in done and not torch.equal(target, values):
            raise TdslError(
                f"{name}.{key} is also {done[id(target)]}, of which another law is declared",
                expected="one law for a shared weight",
            )
        done[id(target)] = f"{name}.{key}"
        target.copy_(values)
