"""Capture: any way of giving a PyTorch model → one functional ATen graph in normal form."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import pickle
import sys
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import sympy
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from tdsl.capture.decided import Assumption, listening
from tdsl.capture.dynamic import Ranges, is_of_sizes, narrower, texts_of, with_dims, without_names
from tdsl.capture.failure import trace_error
from tdsl.capture.functional import functionalized, is_mutable, make_functional
from tdsl.capture.inline import inline_contexts
from tdsl.capture.naming import Axis, Leaf, dynamic_axes, flat_inputs, output_leaf_names, with_given
from tdsl.capture.normal import normalise
from tdsl.capture.recurrences import any_length
from tdsl.errors import TdslError, kind_of
from tdsl.frames import shown_path

PART = 2**20
"""Entries that are looked at together: what is made on the way takes several times their room."""
NEAR = 16
"""Sizes from the smallest on at which a branch is looked at."""

ModelLike = nn.Module | ExportedProgram | str | PathLike[str]


@dataclass(frozen=True)
class Captured:
    """A model in normal form, beside the original it must stay equal to."""

    module: fx.GraphModule
    """Called like the original; shares its weights."""
    original: nn.Module
    """The user's model, called in evaluation mode."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    input_names: tuple[str, ...]
    """One for each tensor among the flattened `(args, kwargs)`, in that order."""
    output_names: tuple[str, ...]
    """One for each tensor among the flattened results, in that order."""
    dynamic_axes: tuple[dict[int, Axis], ...]
    """For each of `input_names`: axis → its name and range; empty where the sizes are fixed."""
    range_constraints: Mapping[sympy.Symbol, Any] = field(repr=False)
    """torch's ranges of the symbols in the graph's shapes."""
    narrowed: tuple[str, ...] = ()
    """The dynamic axes, among those given by a name alone, whose range the model itself bounds."""
    assumed: tuple[Assumption, ...] = ()
    """What branches on sizes take for granted of dynamic axes, where torch was not held to a range."""

    @property
    def name(self) -> str:
        """What the user's model is called: its class."""
        return type(self.user_model).__name__

    @property
    def bounds(self) -> tuple[str, ...]:
        """What the model demands of sizes that were given by a name alone, as by a table of positions."""
        axes = {axis.name: axis for row in self.dynamic_axes for axis in row.values()}
        narrowed = (
            f"the model takes {name} from {axis.minimum} "
            + ("on" if axis.maximum is None else f"to {axis.maximum}")
            for name, axis in axes.items()
            if name in self.narrowed and (axis.minimum > 2 or axis.maximum is not None)
        )
        return (*narrowed, *self._one_way(axes.values()))

    def _one_way(self, axes: Collection[Axis]) -> Iterator[str]:
        """Branches that took the way of the example and take another one at sizes near the smallest."""
        names = {axis.symbol: axis.name for axis in axes}
        told = set()
        for one, axis in itertools.product(self.assumed, axes):
            near = range(axis.minimum, min(axis.minimum + NEAR, (axis.maximum or sys.maxsize) + 1))
            other = next((size for size in near if one.broken_by({axis.symbol: size})), None)
            if other is not None and one not in told:
                told.add(one)
                file, line = one.place
                yield (
                    f"the branch at {shown_path(file)}:{line} took the way of the example, where "
                    f"`{one.called(names)}`: the file is for sizes of which that holds, and not for "
                    f"{axis.name} = {other}"
                )

    @property
    def user_model(self) -> nn.Module:
        """The model as it was given, or the module of the program that was."""
        return self.original.model if isinstance(self.original, _EvalMode) else self.original

    def flat_args(self, args: tuple[Any, ...] | None = None, kwargs: Mapping[str, Any] | None = None) -> Any:
        """The tensors of a call (of the example, without arguments) as a list in order of `input_names`."""
        call = (
            (self.args, self.kwargs) if args is None and kwargs is None else (args or (), dict(kwargs or {}))
        )
        return [leaf for leaf in pytree.tree_leaves(call) if isinstance(leaf, torch.Tensor)]

    def flat_outputs(self, result: Any) -> list[torch.Tensor]:
        """The tensors of a result of `module` or `original`, in order of `output_names`."""
        return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]


class _EvalMode(nn.Module):
    """Calls a model in evaluation mode and leaves it in the mode it was in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _evaluating(self.model):
            return self.model(*args, **kwargs)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every submodule's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def capture(
    model: ModelLike,
    args: tuple[Any, ...] | torch.Tensor = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Captured:
    """Trace `model` on example inputs and bring it into normal form.

    `model` is a module (an `fx.GraphModule` too), an `ExportedProgram`, or the path of a saved one (`.pt2`);
    a program brings its own example inputs. `dynamic_shapes` is that of `torch.export.export`, where a text
    may stand for a `Dim` of that name with the range that the model allows; for a program it only names the
    axes that are dynamic already. A module is captured in evaluation mode and left in its own mode.

    Raises:
        TdslError: the model does not trace, writes into its buffers, has parameters that are not finite,
            or the file or the names given do not fit.
    """
    if isinstance(args, torch.Tensor):
        args = (args,)
    args, kwargs = tuple(args), dict(kwargs or {})
    if isinstance(model, (str, PathLike)):
        model = _load(fspath(model))
    narrowed: tuple[str, ...] = ()
    assumed: tuple[Assumption, ...] = ()
    if isinstance(model, ExportedProgram):
        program = model
        if not args and not kwargs:
            args, kwargs = _example_of(program)
        original: nn.Module = program.module(check_guards=False)
        dims = with_dims(dynamic_shapes, {})
    elif isinstance(model, nn.Module):
        _require_numbers(model)
        in_eval = not any(module.training for module in model.modules())
        original = model if in_eval else _EvalMode(model)
        program, dims, narrowed, assumed = _export(model, args, kwargs, dynamic_shapes)
    else:
        raise TdslError(
            f"cannot capture {kind_of(model)}",
            expected="a torch.nn.Module, a torch.export.ExportedProgram, or the path of a .pt2 file",
        )
    module = _graph_module(program)
    require_finite(module)
    forward = model.forward if isinstance(model, nn.Module) else original.forward
    captured = _described(module, original, args, kwargs, program, forward, dims, input_names, output_names)
    left = {axis.name for axes in captured.dynamic_axes for axis in axes.values()}
    fixed = next((name for name in narrowed if name not in left), None)
    if fixed is not None:
        raise TdslError(
            f"the model leaves the size `{fixed}` no other value than that of the example",
            hint=f"change what depends on it, or leave `{fixed}` out of `dynamic_shapes`",
        )
    return replace(captured, narrowed=narrowed, assumed=assumed)


def _require_numbers(model: nn.Module) -> None:
    """Refuse a model that is described and not loaded. Raises `TdslError`."""
    held = [*model.named_parameters(), *model.named_buffers()]
    name = next((name for name, tensor in held if tensor.is_meta), None)
    if name is not None:
        raise TdslError(
            f"`{name}` is on the device `meta`, which has shapes and no numbers",
            expected="a model whose weights are loaded",
            hint="`model.to_empty(device='cpu')` makes room for them, `load_state_dict` fills it",
        )


def require_finite(module: nn.Module) -> None:
    """Refuse weights that no computation could be compared on.

    Buffers may be infinite, as attention masks are, but not NaN.

    Raises:
        TdslError: a parameter holds NaN or infinity, or a buffer NaN.
    """
    rows: list[tuple[str, str, torch.Tensor]] = [("parameter", *p) for p in module.named_parameters()]
    rows += [("buffer", *b) for b in module.named_buffers()]
    for kind, name, tensor in rows:
        if not tensor.is_floating_point():
            continue
        parts = torch.split(tensor.detach().flatten(), PART)
        count = sum(int((part.isnan() if kind == "buffer" else ~part.isfinite()).sum()) for part in parts)
        if count:
            found = "NaN" if kind == "buffer" or bool(tensor.isnan().any()) else "infinite"
            raise TdslError(
                f"{kind} `{name}` has {count} {found} value{'s' * (count > 1)} among {tensor.numel()}",
                hint="the checkpoint is damaged or training diverged; no rewrite of it can be verified",
            )


# ---------------------------------------------------------------- to an exported program


def _load(path: str) -> ExportedProgram:
    if not Path(path).is_file():
        raise TdslError(f"there is no file {path!r}", hint="give the path of a .pt2 file")
    try:
        with _silence():
            return torch.export.load(path)
    except (
        RuntimeError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
    ) as error:
        raise TdslError(
            f"{path!r} is not a saved torch.export program: {str(error).splitlines()[0]}",
            expected="a file written by torch.export.save",
        ) from None


def _example_of(program: ExportedProgram) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if program.example_inputs is None:
        raise TdslError(
            "this exported program carries no example inputs",
            hint="pass them: capture(program, args)",
        )
    args, kwargs = program.example_inputs
    return tuple(args), dict(kwargs)


def _export(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_shapes: Any
) -> tuple[ExportedProgram, Any, tuple[str, ...], tuple[Assumption, ...]]:
    """The program, sizes as declared, the names of those that the model narrows, what it assumes of them."""

    def traced(dims: Any, call: Any) -> ExportedProgram:
        with _evaluating(model), torch.no_grad(), _silence(), any_length():
            return torch.export.export(model, *call, dynamic_shapes=dims)

    ranges: Ranges = {}
    while True:
        dims = with_dims(dynamic_shapes, ranges)
        try:
            with listening() as decisions:
                program = traced(dims, _unshared(args, kwargs))
            return program, dims, tuple(ranges), tuple(decisions.assumed)
        except Exception as error:  # user's code and torch's tracer raise whatever they like
            refused = error
        allowed = narrower(refused, dynamic_shapes, ranges)
        if allowed is None:
            break
        ranges = allowed
    names = texts_of(dynamic_shapes) if is_of_sizes(refused) else set()
    if names:
        with contextlib.suppress(Exception):  # the first refusal says more
            # torch marks what it is given as dynamic, and leaves the mark where it fails
            call = pytree.tree_map_only(torch.Tensor, torch.clone, (args, kwargs))
            with listening() as open_ended:
                program = traced(without_names(dynamic_shapes), call)
            return program, dynamic_shapes, tuple(sorted(names)), tuple(open_ended.assumed)
    raise trace_error(refused, decisions) from None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing of torch's on the terminal: our errors tell what matters of its failures."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        nowhere = io.StringIO()
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _unshared(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call with every tensor given once: torch.export takes one given twice for one input."""
    seen: set[int] = set()

    def once(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if id(leaf) in seen:
            return leaf.clone()
        seen.add(id(leaf))
        return leaf

    args, kwargs = pytree.tree_map(once, (args, kwargs))
    return args, kwargs


# ---------------------------------------------------------------- to a graph in normal form


def _graph_module(program: ExportedProgram) -> fx.GraphModule:
    """The program as a plain graph module: functional, its guards and unused attributes gone."""
    graph_module = program.module(check_guards=False)
    inline_contexts(graph_module)
    if any(is_mutable(node) for node in graph_module.graph.nodes) and not make_functional(graph_module):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph_module = functionalized(program).module(check_guards=False)
        inline_contexts(graph_module)
    for node in graph_module.graph.nodes:
        if is_mutable(node):
            written = node.args[0]
            name = written.target if isinstance(written, fx.Node) else written
            raise TdslError(
                f"the model writes into its own state or input `{name}`",
                hint="an ONNX file computes outputs from inputs only: return the new value as an output",
            )
    normalise(graph_module)
    return fx.GraphModule(graph_module, graph_module.graph)


def _described(
    module: fx.GraphModule,
    original: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    program: ExportedProgram,
    forward: Any,
    dynamic_shapes: Any,
    input_names: Sequence[str] | None,
    output_names: Sequence[str] | None,
) -> Captured:
    leaves = flat_inputs(forward, args, kwargs, dynamic_shapes)
    placeholders = module.graph.find_nodes(op="placeholder")
    rows: list[tuple[Leaf, Any]] = [
        (leaf, node.meta["val"])
        for leaf, node in zip(leaves, placeholders, strict=True)
        if isinstance(node.meta["val"], torch.Tensor)
    ]
    names = with_given(tuple(leaf.name for leaf, _ in rows), input_names, "input")
    out_spec = program.call_spec.out_spec
    assert out_spec is not None
    results = pytree.tree_leaves(module.graph.output_node().args[0])
    outputs = tuple(
        name
        for name, result in zip(output_leaf_names(out_spec, names), results, strict=True)
        if isinstance(result, fx.Node) and isinstance(result.meta["val"], torch.Tensor)
    )
    return Captured(
        module=module,
        original=original,
        args=args,
        kwargs=kwargs,
        input_names=names,
        output_names=with_given(outputs, output_names, "output"),
        dynamic_axes=dynamic_axes([r[0] for r in rows], [r[1] for r in rows], program.range_constraints),
        range_constraints=dict(program.range_constraints),
    )
