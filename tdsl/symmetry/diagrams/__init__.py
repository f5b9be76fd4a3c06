"""Bases of the linear maps that commute with S(n), A(n), O(n), SO(n) or Sp(n), as diagrams on points.

A map of order k → l takes tensors of k axes of size n to tensors of l axes. A diagram joins l + k points, one
for each axis of the output and then of the input; which diagrams there are depends on the group, and their
number not on n, once n is large enough.
"""

from tdsl.symmetry.diagrams.bases import FAMILIES, basis, dimension
from tdsl.symmetry.diagrams.diagram import Diagram

__all__ = ["FAMILIES", "Diagram", "basis", "dimension"]
