"""Models of molecules, crystals and frames, and the contracts that they keep or break."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOLECULE = """\
group Motions = E(3)

action points of Motions on [..., 3] {
    generator: x @ g.T + t
}

action vectors of Motions on [..., 3] {
    generator: x @ g.T
}

symmetry molecule {
    group Motions
    input positions: [b, n, 3] by points
    output energy: [b, 1] invariant
    output forces: [b, n, 3] by vectors
    output moved: [b, n, 3] by points
    tolerance 1e-9
}
"""

CRYSTAL = """\
group Images = Z(n, 3)

/// Each atom may be any of its periodic images.
action image of Images on [..., n, 3] {
    generator: x + t
}

symmetry periodic {
    group Images
    input fractional: [b, n, 3] by image
    output energy: [b, 1] invariant
    tolerance 1e-9
}

group Shifts = T(3)

action shift of Shifts on [..., 3] {
    generator: x + t
}

symmetry shifted {
    group Shifts
    input fractional: [b, n, 3] by shift
    output energy: [b, 1] invariant
    tolerance 1e-9
}

group Turns = O(3)

action turn of Turns on [..., 3] {
    generator: x @ g.T
}

symmetry turned {
    group Turns
    input lattice: [b, 3, 3] by turn
    output energy: [b, 1] invariant
    tolerance 1e-9
}
"""

FRAMES = """\
group Motions = SE(3)

action frame of Motions on [..., 3, 3] {
    generator: g @ x
}

action place of Motions on [..., 3] {
    generator: x @ g.T + t
}

symmetry backbone {
    group Motions
    input rotations: [b, n, 3, 3] by frame
    input origins: [b, n, 3] by place
    output turned: [b, n, 3, 3] by frame
    output placed: [b, n, 3] by place
    tolerance 1e-9
}
"""


class Molecule(nn.Module):
    """Energy, forces and new places by squared distances (Satorras et al., 2021); `leak`: absolute."""

    def __init__(self, leak: float = 0.0) -> None:
        super().__init__()
        self.edge = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU())
        self.weigh, self.read = nn.Linear(8, 1), nn.Linear(8, 1)
        self.leak = leak

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[b, n, 3] → [b, 1], [b, n, 3], [b, n, 3]."""
        apart = positions[:, :, None] - positions[:, None]
        edges = self.edge((apart * apart).sum(-1, keepdim=True))
        forces = (self.weigh(edges) * apart).sum(2)
        energy = self.read(edges.sum(2)).sum(1)
        if self.leak:
            energy = energy + self.leak * positions.square().sum((1, 2))[:, None]
        return energy, forces, positions + forces


class Crystal(nn.Module):
    """An energy by fractional coordinates and a lattice, over the neighbouring cells (Xie et al., 2022)."""

    def __init__(self, *, images: bool = True) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 1))
        self.images = images
        steps = torch.tensor([-1.0, 0.0, 1.0])
        self.register_buffer("cells", torch.cartesian_prod(steps, steps, steps))

    def forward(self, fractional: Tensor, lattice: Tensor) -> Tensor:
        """[b, n, 3], [b, 3, 3] → [b, 1]."""
        apart = fractional[:, :, None] - fractional[:, None]
        if self.images:
            apart = apart - torch.round(apart)
        places = (apart[:, :, :, None] + self.cells) @ lattice[:, None, None]
        return self.read(torch.exp(-places.square().sum(-1, keepdim=True))).sum((1, 2, 3))


class Frames(nn.Module):
    """Every frame moved by what it sees of the others in its own axes; `leak` lets it see absolute places."""

    def __init__(self, leak: float = 0.0) -> None:
        super().__init__()
        self.step = nn.Linear(4, 3)
        self.leak = leak

    def forward(self, rotations: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
        """[b, n, 3, 3], [b, n, 3] → the same."""
        apart = origins[:, None] - origins[:, :, None]
        seen = torch.einsum("bnji,bnmj->bnmi", rotations, apart)
        if self.leak:
            seen = seen + self.leak * origins[:, None]
        steps = torch.tanh(self.step(torch.cat([seen, seen.square().sum(-1, keepdim=True)], -1)))
        return rotations, origins + torch.einsum("bnij,bnj->bni", rotations, steps.mean(2))
