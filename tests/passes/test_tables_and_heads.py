"""Factorized tables that grow (F26), and heads over feature maps that know how these were flattened (F25)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from cases_regression import PARTS, head, last
from rule_cases import low_rank, net, number, relative_error
from torch import Tensor, fx, nn

import tdsl
from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.driver import rewrite
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.weights import prune_weights
from tdsl.factor.rank import Error

WORDS, WIDTH, RANK = 20, 8, 3


def rewritten(rule: str, model: nn.Module, x: Tensor, rank: object) -> tuple[fx.GraphModule, int]:
    module = copied(capture(model, (x,)).module)
    made = standard_library().rule(f"factorize.{rule}", {"rank": rank})
    count = rewrite(module, [made], None, Journal())
    prune_weights(module)
    module.recompile()
    return module, count


def language(m: nn.Module, ids: Tensor) -> Tensor:
    """Words, and scores of all words by the same table."""
    return F.linear(F.embedding(ids, m.e).tanh(), m.e)


IDS = torch.tensor([[0, 3, 8], [5, 19, 1]])


def grown(module: fx.GraphModule, rows: Tensor) -> fx.GraphModule:
    """The module with more rows in its table of `RANK` numbers each."""
    larger = copied(module)
    [name] = [n for n, p in larger.named_parameters() if p.shape == (WORDS, RANK)]
    setattr(larger, name, nn.Parameter(torch.cat([getattr(larger, name).data, rows])))
    return larger


@pytest.mark.parametrize("form", ["lookup", "tied"])
def test_a_table_grows_by_rows_of_few_numbers_and_old_words_stay_bit_for_bit(form: str) -> None:
    """Rows of new words are weighted means of rows that are there; d numbers a word are nowhere stored."""
    tied = form == "tied"
    model = net(language if tied else lambda m, ids: F.embedding(ids, m.e), e=low_rank(WORDS, WIDTH, RANK))
    rule = "embedding.tied_embedding" if tied else "embedding.svd_embedding"
    module, count = rewritten(rule, model, IDS, RANK)
    assert count == 1 and sum(p.shape == (WORDS, RANK) for p in module.parameters()) == 1
    [table] = [p.data for p in module.parameters() if p.shape == (WORDS, RANK)]
    mixing = number(2, WORDS).softmax(1)
    larger = grown(module, mixing @ table)
    old, new = module(IDS), larger(IDS)
    assert torch.equal(new[..., :WORDS] if tied else new, old) and old.std() > 0.1
    added = torch.tensor([[WORDS, WORDS + 1, 0]])
    if tied:
        assert new.shape[-1] == WORDS + 2
        expected = F.linear(F.embedding(IDS, model.e).tanh(), torch.cat([model.e, mixing @ model.e]))
        assert relative_error(expected, new) < 1e-9
    else:
        assert relative_error((mixing @ model.e)[None], larger(added)[:, :2]) < 1e-9
    shaken = grown(module, mixing @ table)  # the control: the other factor is read by old words as well
    [basis] = [p for p in shaken.parameters() if p.shape == (WIDTH, RANK)]
    basis.data = basis.data * (1 + 1e-6 * number(WIDTH, RANK))
    assert not torch.equal(shaken(IDS)[..., : old.shape[-1]], old)


def test_the_file_holds_one_table_of_few_numbers(tmp_path: Path) -> None:
    import onnx

    text = f"pipeline p {{\n once factorize.embedding.tied_embedding(rank={RANK})\n check error <= 0.1%\n}}"
    (tmp_path / "p.tdsl").write_text(text)
    model = net(language, e=low_rank(WORDS, WIDTH, RANK)).float()
    path = tmp_path / "model.onnx"
    tdsl.compile(model, (IDS,), pipeline="p", rules=tmp_path / "p.tdsl", output=path, latency=False)
    sizes = [tuple(i.dims) for i in onnx.load(path).graph.initializer]
    tables = [s for s in sizes if WORDS in s]
    assert len(tables) == 1 and sorted(tables[0]) == [RANK, WORDS]


def test_a_head_is_wrong_for_features_that_were_flattened_in_another_order() -> None:
    x = number(5, 6, 3, 4)
    model = net(head, **PARTS).requires_grad_(False)
    module, count = rewritten("regression.tucker_head", model, x, Error(1e-6))
    assert count == 1 and relative_error(model(x), module(x)) < 1e-9
    swapped = net(last, **PARTS)  # channels last: the same weight means something else
    assert relative_error(swapped(x), module(x)) > 0.3
    assert rewritten("regression.tucker_head", swapped, x, Error(1e-6))[1] == 0


def test_masks_on_components_average_to_the_head() -> None:
    """Dropout of components trains what is in the mean the head that is emitted: it is linear in its core."""
    x = number(5, 6, 3, 4)
    model = net(head, **PARTS)
    module, _ = rewritten("regression.tucker_head", model, x, Error(1e-6))
    [core] = [p for p in module.parameters() if p.dim() == 2 and len(p) == 10]
    whole, kept, total = core.data.clone(), 0.75, torch.zeros_like(model(x))
    for mask in range(1 << core.shape[1]):  # every mask, by its probability
        bits = torch.tensor([mask >> k & 1 for k in range(core.shape[1])], dtype=torch.float64)
        core.data = whole * bits / kept
        chance = kept ** float(bits.sum()) * (1 - kept) ** float((1 - bits).sum())
        total = total + chance * (module(x) - model.b)
    assert relative_error(model(x) - model.b, total) < 1e-9
    assert relative_error(model(x) - model.b, module(x) - model.b) > 1e-2  # the last one alone is not
