"""Elements chosen by the values of integer or boolean tensors."""

from __future__ import annotations

from tdsl.ops.spec import operator

INDEXING = (
    operator(
        "embedding(weight: [v, d], indices: [...], padding_idx: int = -1, scale_grad_by_freq: bool = False, "
        "sparse: bool = False) -> [..., d]",
        aten="aten.embedding.default",
        normal=lambda weight, indices, *_: (weight, indices),
        torch="torch.embedding",
        moves=True,
        linear_in=("weight",),
        selects={"indices": "axis"},
        doc="The rows of weight that the indices name.",
    ),
    operator(
        "gather(x, dim: dim, index, *, sparse_grad: bool = False) -> gather",
        aten="aten.gather.default",
        torch="torch.gather Tensor.gather",
        moves=True,
        linear_in=("x",),
        selects={"index": "axis"},
        doc="At each place of the index, the element of x that it names along the axis.",
    ),
    operator(
        "take_along_dim(x, index, dim: dim = None) -> take_along_dim",
        aten="aten.take_along_dim.default",
        torch="torch.take_along_dim",
        moves=True,
        linear_in=("x",),
        selects={"index": "axis"},
        doc="As gather, x and the index broadcast against each other.",
    ),
    operator(
        "index_select(x, dim: dim, index) -> index_select",
        aten="aten.index_select.default",
        torch="torch.index_select Tensor.index_select",
        moves=True,
        linear_in=("x",),
        selects={"index": "axis"},
        doc="The slices along the axis that the index names.",
    ),
    operator(
        "index(x, indices...) -> index",
        aten="aten.index.Tensor",
        moves=True,
        linear_in=("x",),
        selects={"indices": "axis"},
        doc="x[i, j, …] with tensors as indices, broadcast against each other; none keeps an axis.",
    ),
    operator(
        "index_put(x, indices..., values, accumulate: bool = False) -> index_put",
        aten="aten.index_put.default",
        selects={"indices": "axis"},
        doc="x with x[i, j, …] replaced by the values, or increased by them.",
    ),
    operator(
        "index_add(x, dim: dim, index, source, *, alpha: scalar = 1) -> index_add",
        aten="aten.index_add.default",
        selects={"index": "axis"},
        doc="x with alpha · source added to the slices that the index names.",
    ),
    operator(
        "index_copy(x, dim: dim, index, source) -> index_add",
        aten="aten.index_copy.default",
        selects={"index": "axis"},
        doc="x with the slices that the index names replaced by those of the source.",
    ),
    operator(
        "index_fill(x, dim: dim, index, value: value) -> index_fill",
        aten="aten.index_fill.int_Scalar",
        variants="aten.index_fill.int_Tensor",
        selects={"index": "axis"},
        doc="x with the slices that the index names filled with the value.",
    ),
    operator(
        "scatter(x, dim: dim, index, source: value) -> scatter",
        aten="aten.scatter.src",
        variants="aten.scatter.value",
        torch="torch.scatter Tensor.scatter",
        selects={"index": "axis"},
        doc="x with the elements that the index names along the axis replaced.",
    ),
    operator(
        "scatter_add(x, dim: dim, index, source) -> scatter",
        aten="aten.scatter_add.default",
        torch="torch.scatter_add Tensor.scatter_add",
        selects={"index": "axis"},
        doc="x with the source added to the elements that the index names along the axis.",
    ),
    operator(
        "scatter_reduce(x, dim: dim, index, source, reduce: text, *, include_self: bool = True) -> scatter",
        aten="aten.scatter_reduce.two",
        selects={"index": "axis"},
        doc='x folded with the source where the index says: "sum", "prod", "mean", "amax", "amin".',
    ),
    operator(
        "slice_scatter(x, source, dim: dim = 0, start: int = None, end: int = None, step: int = 1) "
        "-> slice_scatter",
        aten="aten.slice_scatter.default",
        moves=True,
        doc="x with a slice of it replaced by the source.",
    ),
    operator(
        "select_scatter(x, source, dim: dim, index: int) -> select_scatter",
        aten="aten.select_scatter.default",
        moves=True,
        doc="x with one slice along the axis replaced by the source.",
    ),
    operator(
        "masked_select(x, mask) -> unknown",
        aten="aten.masked_select.default",
        selects={"mask": "mask"},
        doc="The elements where the mask holds, in a row; how many depends on its values.",
    ),
    operator(
        "masked_scatter(x, mask, source) -> broadcast_first_two",
        aten="aten.masked_scatter.default",
        selects={"mask": "mask"},
        doc="x with the elements where the mask holds taken from the source, in order.",
    ),
    operator(
        "nonzero(x) -> unknown",
        aten="aten.nonzero.default",
        doc="The places of the elements that are not zero; how many depends on the values.",
    ),
    operator(
        "one_hot(x, classes: int = -1) -> one_hot",
        aten="aten.one_hot.default",
        doc="A new last axis, 1 at the place that x names and 0 elsewhere.",
    ),
    operator(
        "bucketize(x: value, boundaries: [k], *, out_int32: bool = False, right: bool = False) -> like",
        aten="aten.bucketize.Tensor",
        variants="aten.bucketize.Scalar",
        doc="Between which boundaries each element lies.",
    ),
)
