"""What a `symmetry` declaration moves, for the wrappers that make a model keep it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tdsl.errors import TdslError
from tdsl.symmetry.action import Action
from tdsl.symmetry.contract import Contract
from tdsl.symmetry.elements import plan
from tdsl.symmetry.impose.moves import Moves

Sides = tuple[tuple[Moves | None, ...], tuple[Moves | None, ...]]


def declared_moves(
    contract: Contract, inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]]
) -> Sides:
    """What a contract does to inputs and outputs of those names and shapes; `None` where nothing moves.

    Shapes include the batch axis; sizes of axes that nothing moves do not matter. Raises `TdslError` for a
    continuous group, and where the contract does not fit.
    """
    found = plan(contract, inputs, outputs)
    if not found.group.finite:
        raise TdslError(
            f"{found.group.name} has infinitely many elements",
            contract.source.span,
            expected="a finite group",
            hint="point clouds have `FrameAverage` and `GramSchmidt`",
        )

    def side(actions: Sequence[Sequence[Action | None]]) -> tuple[Moves | None, ...]:
        """From the actions of each generator to those on each tensor."""
        tensors = ([one for one in on if one is not None] for on in zip(*actions, strict=True))
        return tuple(Moves(found.group, tuple(on)) if on else None for on in tensors)

    return side([trial.into for trial in found.trials]), side([trial.out for trial in found.trials])
