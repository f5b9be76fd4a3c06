"""Elements chosen by the values of integer or boolean tensors."""

from __future__ import annotations

from tdsl.ops.spec import operator

INDEXING = (
    operator(
        "embedding(weight: [v, d], indices: [...], padding_idx: int = -1, scale_grad_by_freq: bool = False, "
        "sparse: bool = False) -> [..., d]",
        aten="aten.embedding.default",
        torch="torch.embedding",
        moves=True,
        linear_in=("weight",),
        doc="The rows of weight that the indices name.",
    ),
)
