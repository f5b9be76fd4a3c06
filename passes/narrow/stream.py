"""A residual stream of fewer channels: every weight that writes or reads it changes at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx

from tdsl.engine.census import census
from tdsl.engine.driver import Scope
from tdsl.engine.edit import Editor
from tdsl.engine.explain import Explanation, Failure, Site, place_of
from tdsl.engine.journal import Journal
from tdsl.engine.passes import GraphPass, graph_pass
from tdsl.engine.staged import CannotStage
from tdsl.engine.statistics import request_of
from tdsl.engine.weights import prune_weights
from tdsl.engine.workspace import Workspace
from tdsl.errors import TdslError
from tdsl.factor.matrix import from_gram
from tdsl.factor.rank import as_rank_rule
from tdsl.symmetry.hidden.streams import Stream, narrowed, streams


@graph_pass
class NarrowStream(GraphPass):
    """Keep the directions of a residual stream that hold most of what norms read, everywhere at once.

    `width` is a number of channels, a share of them, or a rank rule on its spectrum: `energy(99%)`.
    Gains of norms are folded before (`repeat narrow.norms.*`), layer norms become root mean squares.
    """

    name = "narrow.stream"
    parameters = "width: Rank = energy(0.99)"
    approximate = True

    def rewrite(self, module: fx.GraphModule, journal: Journal, scope: Scope | None = None) -> int:
        """Narrow every stream that can be; each is one entry.

        Raises `TdslError` without calibration data, and where there are streams and none can be narrowed.
        """
        count = 0
        while not journal.full:
            found = [s for s in streams(module) if scope is None or all(map(scope, s.nodes))]
            open_ = [s for s in found if s.refused is None and not any(map(self._made, s.norms))]
            if not open_:
                self._require(found, count)
                break
            self._narrow(module, open_[0], journal)
            count += 1
        if count:
            prune_weights(module)
            module.graph.lint()
        return count

    def explain(self, module: fx.GraphModule, limit: int = 5) -> Explanation:
        """Which streams can be narrowed, and what is in the way of the others."""
        found = streams(module)
        free = [place_of(s.norms[0]) for s in found if s.refused is None]
        sites = []
        for stream in found:
            if (pin := stream.refused) is not None:
                text = f"the stream of {stream.name}: {pin}"
                failure = Failure("condition", text, "", "", "", place_of(pin.node), (), "", "")
                sites.append(Site(place_of(stream.norms[0]), 1, 2, (), (failure,), 0))
        return Explanation(
            rule=self.name,
            candidates=len(found),
            fires=len(free),
            fired=tuple(free[:limit]),
            sites=tuple(sites[:limit]),
            root="a residual stream with norms",
            nearest=(),
            otherwise=(),
        )

    def _made(self, norm: fx.Node) -> bool:
        return bool(norm.meta.get(self.name))

    def _require(self, found: list[Stream], count: int) -> None:
        """Raise `TdslError` where there are streams and none of them has been narrowed."""
        refused = [s for s in found if s.refused is not None and not any(map(self._made, s.norms))]
        if count == 0 and refused:
            raise TdslError(
                f"the residual stream of {refused[0].name} cannot be narrowed: {refused[0].refused}",
                self.span,
                expected="dense layers and embeddings that write and read it, sums, and norms without gain",
            )

    def _narrow(self, module: fx.GraphModule, stream: Stream, journal: Journal) -> None:
        moment = self._moment(module, stream)
        vectors, values = from_gram(moment)
        rule = as_rank_rule(self.values["width"])
        try:
            width = rule.select(values, stream.size)
        except TdslError as error:
            raise TdslError(error.message, self.span, expected=error.expected, hint=error.hint) from None
        if stream.centred:
            width = min(width, stream.size - 1)
        before = census(module)
        dtype = stream.norms[0].meta["val"].dtype
        like = [n for n in stream.nodes[0].all_input_nodes if n.op == "get_attr"]
        gain = Editor(Workspace(module)).add_parameter(
            torch.full((width,), math.sqrt(stream.size / width), dtype=torch.float64), dtype, like, "gain"
        )
        narrowed(stream, vectors[:, :width], gain)
        for norm in stream.norms:
            norm.meta[self.name] = True
        after = census(module)
        journal.note(
            self.name,
            stream.nodes[0],
            stream.nodes,
            saved_parameters=before.parameters - after.parameters,
            saved_macs=before.macs - after.macs,
            details={"channels": stream.size, "kept": width},
            error=math.sqrt(max(0.0, float(values[width:].square().sum() / values.square().sum()))),
        )

    def _moment(self, module: fx.GraphModule, stream: Stream) -> Tensor:
        """The mean second moment of what norms read, each at trace 1: a norm sees no length. → [d, d]."""
        try:
            asked = [request_of("second_moment", x, -1, x.meta["val"]) for x in stream.read]
        except CannotStage as reason:
            raise TdslError(f"the residual stream of {stream.name}: {reason}", self.span) from None
        statistics = self.statistics(module, asked)
        if statistics is None:
            raise TdslError(
                "narrowing a residual stream needs calibration data",
                self.span,
                expected="samples of the model's inputs: `calibration=…`, or the option `--calibration`",
            )
        total = torch.zeros(stream.size, stream.size, dtype=torch.float64)
        for request in asked:
            moment = statistics.answer(request)
            if stream.centred:
                moment = moment - moment.mean(0) - moment.mean(1)[:, None] + moment.mean()
            total += moment / moment.trace().clamp_min(torch.finfo(torch.float64).tiny)
        if stream.centred:
            total -= len(asked) / stream.size  # the mean is the direction that comes last
        return total / len(asked)
