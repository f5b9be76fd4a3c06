"""Dense rules by what data say: principal components of outputs (F04, F09), and a classifier's task (F02)."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from rule_cases import net, number
from torch import Tensor, fx, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.weights import prune_weights
from tdsl.factor.whitened import two_sided_svd
from tdsl.plan.calibrate import Data, collect
from tdsl.plan.candidates import Choice, requests_of

N, M = 14, 10
WEIGHT, BIAS = number(M, N), number(M)


def rewritten(rule: str, model: nn.Module, data: list[tuple[Tensor, ...]], rank: object) -> fx.GraphModule:
    captured = capture(model, data[0])
    module = copied(captured.module)
    made = standard_library().rule(f"factorize.{rule}", {"rank": rank})
    asked = requests_of(module, [Choice(made.name, made.parameters, made)], None)
    known = collect(module, Data.of(captured, data), asked) if asked else None
    assert rewrite(module, [made], None, Journal(), known)
    prune_weights(module)
    module.recompile()
    return module


def skewed(count: int = 3_000, seed: int = 3) -> Tensor:
    """Inputs of unequal size that depend on one another and are not zero in the mean."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(N, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = torch.randn(count, N, generator=generator, dtype=torch.float64)
    return (drawn * 0.6 ** torch.arange(N)) @ mixing + 2.0


def dense() -> nn.Module:
    return net(lambda m, x: F.linear(x, m.w, m.b), w=WEIGHT, b=BIAS)


class TestPrincipalComponentsOfOutputs:
    @pytest.mark.parametrize("rank", [1, 2, 4, 5])
    def test_the_error_on_calibration_data_is_the_tail_of_the_eigenvalues(self, rank: int) -> None:
        x, model = skewed(), dense()
        y = model(x)
        values = torch.linalg.eigvalsh(torch.cov(y.T, correction=0)).flip(0)
        module = rewritten("linear.whitened_linear", model, [(x,)], rank)
        missed = float((module(x) - y).square().sum(1).mean())
        assert missed == pytest.approx(float(values[rank:].sum()), rel=1e-5)
        plain = rewritten("linear.svd_linear", model, [(x,)], rank)
        assert float((plain(x) - y).square().sum(1).mean()) > 1.05 * missed

    def test_without_the_second_bias_the_mean_is_lost(self) -> None:
        x, model = skewed(), dense()
        module = rewritten("linear.whitened_linear", model, [(x,)], 2)
        y, found = model(x), module(x)
        last = max((p for p in module.parameters() if p.dim() == 1), key=len)
        with torch.no_grad():
            last.copy_(BIAS)
        assert (module(x) - y).norm() > 1.5 * (found - y).norm()

    def test_rows_of_a_table_count_as_often_as_they_are_read(self) -> None:
        """Ids of Zipf's law: a table truncated by their frequencies loses less than one truncated plainly."""
        size = 60
        often = 1 / torch.arange(1, size + 1, dtype=torch.float64)
        ids = torch.multinomial(often, 5_000, replacement=True, generator=torch.Generator().manual_seed(4))
        model = net(lambda m, i: F.embedding(i, m.e), e=number(size, 12))
        lost = {
            rule: float((rewritten(f"embedding.{rule}", model, [(ids,)], 4)(ids) - model(ids)).norm())
            for rule in ("frequent_embedding", "svd_embedding")
        }
        assert lost["frequent_embedding"] < 0.9 * lost["svd_embedding"]


class TestBasisOfTargets:
    """A head whose outputs lie near a mean and few directions, as trajectories do (F09)."""

    DIRECTIONS = torch.linalg.qr(number(M, 3)).Q

    def head(self, outside: float = 0.0) -> nn.Module:
        weight = self.DIRECTIONS @ number(3, N)
        if outside:
            apart = number(M) - self.DIRECTIONS @ (self.DIRECTIONS.T @ number(M))
            apart = apart - self.DIRECTIONS @ (self.DIRECTIONS.T @ apart)
            weight = weight + outside * torch.outer(apart / apart.norm(), number(N))
        return net(lambda m, x: F.linear(x, m.w, m.b), w=weight, b=BIAS)

    def test_outputs_in_the_span_are_exact_on_unseen_inputs(self) -> None:
        model, unseen = self.head(), 5 * skewed(50, seed=9)
        module = rewritten("linear.whitened_linear", model, [(skewed(),)], 3)
        assert (module(unseen) - model(unseen)).norm() < 1e-7 * model(unseen).norm()
        less = rewritten("linear.whitened_linear", model, [(skewed(),)], 2)
        assert (less(unseen) - model(unseen)).norm() > 1e-3 * model(unseen).norm()

    def test_it_is_the_projection_on_the_directions_and_what_is_outside_is_the_error(self) -> None:
        x, model = skewed(), self.head(outside=0.01)
        y = model(x).detach()
        mean = y.mean(0)
        module = rewritten("linear.whitened_linear", model, [(x,)], 3)
        basis = torch.linalg.eigh(torch.cov(y.T, correction=0)).eigenvectors[:, -3:]
        projected = mean + (y - mean) @ basis @ basis.T
        found = module(x).detach()
        assert (found - projected).norm() < 1e-5 * (y - mean).norm()
        outside = (y - mean) - (y - mean) @ basis @ basis.T
        assert float((y - found).norm()) == pytest.approx(float(outside.norm()), rel=1e-3)
        assert float(outside.norm()) > 1e-4 * float((y - mean).norm())


def test_a_trained_classifier_keeps_more_of_its_task_by_gradients_than_by_the_spectrum() -> None:
    """At equal rank the layer truncated by Fisher information serves the task at least as well (F02)."""
    torch.manual_seed(0)
    classes, directions = 4, torch.randn(4, N) * 1.5
    labels = torch.randint(0, classes, (1_200,))
    x = directions[labels] + torch.randn(1_200, N)
    model = nn.Sequential(nn.Linear(N, 16), nn.ReLU(), nn.Linear(16, classes))
    steps = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(120):
        steps.zero_grad()
        F.cross_entropy(model(x[:600]), labels[:600]).backward()
        steps.step()
    with torch.no_grad():  # a unit that is large and that nothing reads
        model[0].weight[3] *= 30
        model[2].weight[:, 3] = 0
    model.eval()
    for rank in (1, 2, 3):
        plain, fisher = (
            rewritten(f"linear.{rule}", model, [(x[:600],)], rank)
            for rule in ("svd_linear", "two_sided_linear")
        )
        with torch.no_grad():
            losses = [float(F.cross_entropy(m(x[600:]), labels[600:])) for m in (plain, fisher)]
            right = [int((m(x[600:]).argmax(1) == labels[600:]).sum()) for m in (plain, fisher)]
        assert losses[1] < losses[0] and right[1] >= right[0]
        with torch.no_grad():  # the control: the information of other units is none
            kept = {name: p.clone() for name, p in model.named_parameters()}
            blind = shuffled_information(model, x[:600], rank)
            assert float(F.cross_entropy(blind(x[600:]), labels[600:])) > 1.1 * losses[1]
            assert all(torch.equal(kept[name], p) for name, p in model.named_parameters())


def shuffled_information(model: nn.Sequential, x: Tensor, rank: int) -> nn.Module:
    """The first layer truncated by a moment of gradients whose units stand in another order."""
    layer, hidden = model[0], x @ model[0].weight.T + model[0].bias
    jacobian = torch.einsum("nh,ch->nch", (hidden > 0).float(), model[2].weight)
    outputs = torch.einsum("nch,ncg->hg", jacobian, jacobian).double() / len(x)
    order = torch.randperm(len(outputs), generator=torch.Generator().manual_seed(2))
    inputs = torch.cov(x.T.double(), correction=0)
    left, right = two_sided_svd(layer.weight.double(), inputs, outputs[order][:, order], rank)
    made = copy.deepcopy(model)
    made[0].weight.copy_(left @ right)
    mean = x.double().mean(0)
    made[0].bias.add_((layer.weight.double() - left @ right) @ mean)
    return made
