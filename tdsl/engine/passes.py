"""Rules and hand-written passes under one interface: PyTorch's `PassBase`, in any `PassManager`."""

from __future__ import annotations

import importlib
import pkgutil
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from torch import fx
from torch._ops import OperatorBase
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from tdsl.engine.driver import Scope, Settings, rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.parameters import parameter_values
from tdsl.engine.rule import Rule
from tdsl.engine.statistics import Request, Statistics
from tdsl.errors import Span, TdslError
from tdsl.lang import tree

if TYPE_CHECKING:
    from tdsl.engine.explain import Explanation


class GraphPass(PassBase):
    """A transformation of a graph module in normal form, applied in place."""

    name: str = ""
    doc: str = ""
    parameters: str = ""
    """What a pipeline may set, as a rule declares it: `error: Real = 1%, macs: Ratio = 100%`."""
    approximate: bool = False
    """Whether the pass loses something, so that a pipeline with it needs a contract."""

    def __init__(self, given: Mapping[str, Any] | None = None, span: Span | None = None) -> None:
        """A pass with values for its parameters, defaults elsewhere; `span` is where they are given.

        Raises `TdslError` for an unknown parameter, or a value of another kind.
        """
        super().__init__()
        written = dict.fromkeys(given or {}, span) if span else {}
        self.values = parameter_values(f"pass {self.name}", self.declared(), given or {}, span, written)
        self.span = span

    @classmethod
    def declared(cls) -> tuple[tree.Parameter, ...]:
        """The parameters that take values."""
        return _declared(cls.parameters)

    def statistics(self, module: fx.GraphModule, requests: Sequence[Request]) -> Statistics | None:
        """Statistics of values of a graph, the model as it is now or a copy; `None` without calibration data.

        A pipeline that has data gives every pass that is `approximate` another one.
        """
        return None

    @abstractmethod
    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Transform the graph where `scope` allows, record each change; returns how many there were.

        The caller recompiles the module.
        """

    def explain(self, module: fx.GraphModule, limit: int = 5) -> Explanation:
        """Say where the pass applies, and why not elsewhere. Raises `TdslError` where it cannot say."""
        raise TdslError(
            f"{self.name} is a pass that does not say where it applies",
            expected="a rule, or a pass such as merge.calls",
            hint=f"`tdsl show {self.name}` shows what it does",
        )

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        """Run as a PyTorch pass."""
        modified = self.rewrite(graph_module, Journal()) > 0
        if modified:
            graph_module.recompile()
        return PassResult(graph_module, modified)


class RulePass(GraphPass):
    """A set of rules, applied together to a fixed point."""

    def __init__(self, rules: Sequence[Rule], name: str = "rules") -> None:
        super().__init__()
        self.rules = tuple(rules)
        self.name = name

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Apply the rules; raises `TdslError` when they have no fixed point, or could match nothing here."""
        _require_normal_form(module)
        return rewrite(module, self.rules, Settings(scope=scope), journal)


def _require_normal_form(module: fx.GraphModule) -> None:
    """Refuse a graph of Python calls, in which no rule would ever match."""
    for node in module.graph.nodes:
        if node.op in ("call_module", "call_method") or _is_python(node):
            raise TdslError(
                f"the graph is not in normal form: {node.name} is the {node.op} {node.target}",
                expected="calls of ATen operators",
                hint="`tdsl.capture.capture(model, args).module` is a model in that form; "
                "`tdsl.replace_pattern` takes any graph",
            )


def _is_python(node: fx.Node) -> bool:
    """Whether a node calls a function of torch itself, arithmetic on sizes (`torch.sym_max`) aside."""
    home = getattr(node.target, "__module__", "")
    name = getattr(node.target, "__name__", "")
    exported = isinstance(node.target, OperatorBase) or name.startswith("sym_")
    return node.op == "call_function" and not exported and home in ("torch", "torch.nn.functional")


@cache
def _declared(parameters: str) -> tuple[tree.Parameter, ...]:
    """The parameters that a pass declares in the words of the language."""
    if not parameters:
        return ()
    from tdsl.lang import parse  # a parser, which most passes do without

    [declared] = parse(
        f"pipeline of({parameters}) {{ once cleanup.dead_code }}", "parameters of a pass"
    ).items
    assert isinstance(declared, tree.Pipeline)
    return tuple(declared.parameters)


_PASSES: dict[str, type[GraphPass]] = {}
_Pass = TypeVar("_Pass", bound=type[GraphPass])


def graph_pass(cls: _Pass) -> _Pass:
    """Declare a hand-written pass; its `name` is how pipelines refer to it."""
    cls.doc = (cls.__doc__ or "").strip().partition("\n")[0]
    _PASSES[cls.name] = cls
    return cls


@cache
def standard_passes() -> Mapping[str, type[GraphPass]]:
    """The hand-written passes that come with tdsl, by name."""
    package = importlib.import_module("tdsl.passes")
    for found in pkgutil.walk_packages(package.__path__, "tdsl.passes."):
        importlib.import_module(found.name)
    return dict(sorted(_PASSES.items()))
