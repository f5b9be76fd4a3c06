"""Actions on tokens, batches, heads, ids and features that vanish under `exact`, and some that do not.

Each graph is a function with an action put in, and the same function without it: as many operators are left
of one as of the other, and in float64 the results are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rule_cases import flat, net, number, operators, relative_error, text_of
from torch import Tensor, fx, nn

from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Journal
from tdsl.engine.library import standard_library
from tdsl.engine.strategy import Runner

B, T, D, H = 3, 5, 8, 2
BATCH_FIRST, STEPS_FIRST = (B, T, D), (T, B, D)
TOKENS, SEQUENCES = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 1])
FEATURES, UNITS = torch.tensor([3, 0, 7, 1, 2, 6, 5, 4]), torch.tensor([3, 0, 11, 7, 1, 2, 10, 6, 5, 8, 4, 9])
HEADS, GROUPS = torch.tensor([2, 3, 0, 1]), torch.tensor([1, 0])
TURN, SMALL = torch.linalg.qr(number(D, D)).Q, torch.linalg.qr(number(4, 4)).Q
IDS = torch.tensor([[1, 6, 0, 4, 4], [2, 5, 3, 0, 1], [3, 3, 6, 2, 5]])

Function = Callable[..., Any]


@cache
def runner() -> Runner:
    library = standard_library()
    return Runner(library, library.pipelines["pipelines.exact"])


def inputs(given: tuple[Any, ...], seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    draw = [
        one if isinstance(one, Tensor) else torch.randn(one, generator=generator, dtype=torch.float64)
        for one in given
    ]
    return tuple(draw)


def left(function: Function, given: tuple[Any, ...], parts: Mapping[str, Any]) -> fx.GraphModule:
    """The function after `exact`, equal in float64."""
    model = net(function, **parts)
    module = copied(capture(model, inputs(given, 0)).module)
    runner().run(module, Journal())
    with torch.no_grad():
        values = inputs(given, 1)
        for one, other in zip(flat(model(*values)), flat(module(*values)), strict=True):
            assert relative_error(one, other) <= 1e-11
    return module


def layer(first: int = D, last: int = D) -> nn.Linear:
    return nn.Linear(first, last)


def back(order: Tensor) -> Tensor:
    return order.argsort()


def attend(m: Any, x: Tensor) -> Tensor:
    return m.net(x, x, x, need_weights=False)[0]


def cut(x: Tensor, heads: int = H) -> Tensor:
    """[b, t, h·d] → [b, h, t, d]"""
    return x.reshape(B, T, heads, -1).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """[b, h, t, d] → [b, t, h·d]"""
    return x.transpose(1, 2).reshape(B, T, -1)


def read(
    m: Any, x: Tensor, of: Function = lambda q, k, v: (q, k, v), after: Function = lambda y: y
) -> Tensor:
    """An attention of two heads, with something done to queries, keys and values, and to what it gives."""
    q, k, v = of(cut(m.q(x)), cut(m.k(x)), cut(m.v(x)))
    return m.o(joined(after(F.scaled_dot_product_attention(q, k, v))))


def grouped(m: Any, x: Tensor, of: Function = lambda q, k, v: (q, k, v)) -> Tensor:
    """Four heads of queries, two of keys and values, each of which is read twice."""
    q, k, v = of(cut(m.q(x), 4), cut(m.k(x), 2), cut(m.v(x), 2))
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    return m.o(joined(F.scaled_dot_product_attention(q, k, v, is_causal=True)))


def packed(m: Any, x: Tensor, order: Tensor | None = None) -> Tensor:
    """Queries, keys and values in one layer, four heads, as vision transformers are written."""
    rows = m.qkv(x).reshape(B, T, 3, 4, 2)
    q, k, v = (rows if order is None else rows[:, :, :, order]).permute(2, 0, 3, 1, 4).unbind(0)
    return m.o(joined(F.scaled_dot_product_attention(q, k, v)))


def with_class(m: Any, x: Tensor) -> Tensor:
    return m.net(torch.cat([m.token.expand(B, -1, -1), x], 1))


def gated_channels(m: Any, x: Tensor, of: Tensor | None = None) -> Tensor:
    """Channels weighed by what is in all of them (Hu et al., 2018), then mixed."""
    gate = m.b(m.a((x if of is None else of).mean((2, 3))).relu()).sigmoid()
    return m.o(x * gate[:, :, None, None])


def swiglu(m: Any, x: Tensor, of: Function = lambda gate, up: (gate, up)) -> Tensor:
    gate, up = of(F.silu(m.gate(x)), m.up(x))
    return m.down(gate * up)


def residual(m: Any, x: Tensor, into: Function = lambda h: h, out: Function = lambda h: h) -> Tensor:
    """Two blocks on a stream, which the blocks read and write in another basis."""
    h = x + into(m.first(out(F.rms_norm(x, (D,)))).relu())
    return h + into(m.second(out(F.rms_norm(h, (D,)))).relu())


MHA = {"net": nn.MultiheadAttention(D, H, batch_first=True)}
MHA_STEPS = {"net": nn.MultiheadAttention(D, H)}
ENCODER = {"net": nn.TransformerEncoderLayer(D, H, 16, batch_first=True)}
ENCODER_STEPS = {"net": nn.TransformerEncoderLayer(D, H, 16, norm_first=True)}
READ = {name: layer() for name in "qkvo"}
GROUPED = {"q": layer(), "k": layer(D, 4), "v": layer(D, 4), "o": layer()}
PACKED = {"qkv": layer(D, 3 * D), "o": layer()}
GATED = {"gate": layer(D, 12), "up": layer(D, 12), "down": layer(12, D)}
CLASS = {**ENCODER, "token": number(1, 1, D)}
SQUEEZED = {"a": layer(D, 4), "b": layer(4, D), "o": nn.Conv2d(D, 4, 1)}
IMAGE = ((2, D, 5, 5),)
BLOCKS = {"first": layer(), "second": layer()}

VANISHING: dict[str, tuple[Function, Function, tuple[Any, ...], dict[str, Any]]] = {
    "tokens of an attention": (
        lambda m, x: attend(m, x[:, TOKENS])[:, back(TOKENS)], attend, (BATCH_FIRST,), MHA
    ),
    "tokens of an attention, steps first": (
        lambda m, x: attend(m, x[TOKENS])[back(TOKENS)], attend, (STEPS_FIRST,), MHA_STEPS
    ),
    "sequences of an attention, steps first": (
        lambda m, x: attend(m, x.roll(1, 1)).roll(-1, 1), attend, (STEPS_FIRST,), MHA_STEPS
    ),
    "tokens of an encoder, steps first": (
        lambda m, x: m.net(x.flip(0)).mean(0), lambda m, x: m.net(x).mean(0), (STEPS_FIRST,), ENCODER_STEPS
    ),
    "sequences of an encoder with a mask": (
        lambda m, x: m.net(x[SEQUENCES], src_mask=m.mask)[back(SEQUENCES)],
        lambda m, x: m.net(x, src_mask=m.mask),
        (BATCH_FIRST,),
        {**ENCODER, "mask": torch.full((T, T), float("-inf"), dtype=torch.float64).triu(1)},
    ),
    "tokens with their mask": (
        lambda m, x, k: m.net(x[:, TOKENS], src_key_padding_mask=(k < 1)[:, TOKENS])[:, back(TOKENS)],
        lambda m, x, k: m.net(x, src_key_padding_mask=k < 1),
        (BATCH_FIRST, torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])),
        ENCODER,
    ),
    "tokens beside a class token": (
        lambda m, x: with_class(m, x[:, TOKENS])[:, 0],
        lambda m, x: with_class(m, x)[:, 0],
        (BATCH_FIRST,),
        CLASS,
    ),
    "tokens behind a class token, and back": (
        lambda m, x: with_class(m, x[:, TOKENS])[:, 1:][:, back(TOKENS)],
        lambda m, x: with_class(m, x)[:, 1:],
        (BATCH_FIRST,),
        CLASS,
    ),
    "the largest of tokens": (
        lambda m, x: x[:, TOKENS].topk(2, 1).values, lambda m, x: x.topk(2, 1).values, (BATCH_FIRST,), {}
    ),
    "spread of tokens": (
        lambda m, x: x[:, TOKENS].std(1) + x[:, TOKENS].logsumexp(1),
        lambda m, x: x.std(1) + x.logsumexp(1),
        (BATCH_FIRST,),
        {},
    ),
    "a mean of unmasked tokens": (
        lambda m, x, k: (m.net(x[:, TOKENS]).relu() * k[:, TOKENS, None]).sum(1) / k[:, TOKENS].sum(1, True),
        lambda m, x, k: (m.net(x).relu() * k[:, :, None]).sum(1) / k.sum(1, True),
        (BATCH_FIRST, (B, T)),
        {"net": layer()},
    ),
    "sequences of an LSTM": (
        lambda m, x: m.net(x[SEQUENCES])[0][back(SEQUENCES)],
        lambda m, x: m.net(x)[0],
        (BATCH_FIRST,),
        {"net": nn.LSTM(D, 6, batch_first=True)},
    ),
    "features of a GRU in two directions": (
        lambda m, x: m.net(x[..., FEATURES])[0],
        lambda m, x: m.net(x)[0],
        (BATCH_FIRST,),
        {"net": nn.GRU(D, 6, 2, batch_first=True, bidirectional=True)},
    ),
    "heads of a packed layer": (
        lambda m, x: packed(m, x, HEADS), packed, (BATCH_FIRST,), PACKED
    ),
    "groups of heads": (
        lambda m, x: grouped(m, x, lambda q, k, v: (q[:, HEADS], k[:, GROUPS], v[:, GROUPS])),
        grouped,
        (BATCH_FIRST,),
        GROUPED,
    ),
    "elements of heads": (
        lambda m, x: read(m, x, lambda q, k, v: (q[..., m.p], k[..., m.p], v[..., m.r])),
        read,
        (BATCH_FIRST,),
        {**READ, "p": torch.tensor([2, 0, 3, 1]), "r": torch.tensor([1, 3, 0, 2])},
    ),
    "factors of keys, and their inverses": (
        lambda m, x: read(m, x, lambda q, k, v: (q / m.a, k * m.a, v)),
        read,
        (BATCH_FIRST,),
        {**READ, "a": number(1, H, 1, 4)},
    ),
    "factors of values": (
        lambda m, x: read(m, x, lambda q, k, v: (q, k, v * m.a), lambda y: y * m.a),
        read,
        (BATCH_FIRST,),
        {**READ, "a": number(H, 1, 1)},
    ),
    "heads turned": (
        lambda m, x: read(m, x, lambda q, k, v: (q @ m.q2, k @ m.q2, v @ m.q2)),
        read,
        (BATCH_FIRST,),
        {**READ, "q2": SMALL},
    ),
    "values turned back": (
        lambda m, x, y: F.scaled_dot_product_attention(x @ m.q, y @ m.q, y @ m.q) @ m.q.T,
        lambda m, x, y: F.scaled_dot_product_attention(x, y, y),
        (BATCH_FIRST, BATCH_FIRST),
        {"q": TURN},
    ),
    "ids of a tied table": (
        lambda m, i: F.linear(m.net(m.table(m.p[i])).relu(), m.table.weight)[..., m.p],
        lambda m, i: F.linear(m.net(m.table(i)).relu(), m.table.weight),
        (IDS,),
        {"table": nn.Embedding(7, D), "net": layer(), "p": torch.tensor([4, 6, 0, 3, 1, 5, 2])},
    ),
    "ids of a table of numbers": (
        lambda m, i: m.table[m.p[i]],
        lambda m, i: m.table[i],
        (IDS,),
        {"table": number(7, D), "p": torch.tensor([4, 6, 0, 3, 1, 5, 2])},
    ),
    "ids in columns": (
        lambda m, i: m.table(i.t()).transpose(0, 1),
        lambda m, i: m.table(i),
        (IDS,),
        {"table": nn.Embedding(7, D)},
    ),
    "units of a gated layer": (
        lambda m, x: swiglu(m, x, lambda gate, up: (gate[..., UNITS], up[..., UNITS])),
        swiglu,
        (BATCH_FIRST,),
        GATED,
    ),
    "factors of a gate": (
        lambda m, x: swiglu(m, x, lambda gate, up: (gate * m.a, up)),
        swiglu,
        (BATCH_FIRST,),
        {**GATED, "a": number(12)},
    ),
    "a stream turned": (
        lambda m, x: residual(m, x @ m.q, lambda h: h @ m.q, lambda h: h @ m.q.T) @ m.q.T,
        residual,
        (BATCH_FIRST,),
        {**BLOCKS, "q": TURN},
    ),
    "a stream in another order": (
        lambda m, x: residual(m, x[..., FEATURES])[..., back(FEATURES)],
        residual,
        (BATCH_FIRST,),
        BLOCKS,
    ),
    "nodes of a graph with their edges": (
        lambda m, x: m.zeros.index_add(0, m.i[SEQUENCES], x[SEQUENCES]),
        lambda m, x: m.zeros.index_add(0, m.i, x),
        ((B, D),),
        {"zeros": number(2, D), "i": torch.tensor([0, 1, 1])},
    ),
    "pieces of one layer": (
        lambda m, x, y: torch.cat([m.net(x), m.net(y)], 1),
        lambda m, x, y: m.net(torch.cat([x, y], 1)),
        (BATCH_FIRST, BATCH_FIRST),
        {"net": layer()},
    ),
    "tokens that a layer mixes": (
        lambda m, x: (x[:, TOKENS] + m.b(m.a(x[:, TOKENS].mT).relu()).mT).mean(1),
        lambda m, x: (x + m.b(m.a(x.mT).relu()).mT).mean(1),
        (BATCH_FIRST,),
        {"a": layer(T, 7), "b": layer(7, T)},
    ),
    "channels with a gate of their own": (
        lambda m, x: gated_channels(m, x[:, FEATURES]), lambda m, x: gated_channels(m, x), IMAGE, SQUEEZED
    ),
    "distances of turned points": (
        lambda m, x: ((x @ m.q)[:, :, None] - (x @ m.q)[:, None]).square().sum(-1),
        lambda m, x: (x[:, :, None] - x[:, None]).square().sum(-1),
        (BATCH_FIRST,),
        {"q": TURN},
    ),
}  # fmt: skip

STAYING: dict[str, tuple[Function, Function, tuple[Any, ...], dict[str, Any]]] = {
    "another inverse": (
        lambda m, x: attend(m, x[:, TOKENS])[:, TOKENS], attend, (BATCH_FIRST,), MHA
    ),
    "a causal mask": (
        lambda m, x: m.net(x[:, TOKENS], src_mask=m.mask, is_causal=True)[:, back(TOKENS)],
        lambda m, x: m.net(x, src_mask=m.mask, is_causal=True),
        (BATCH_FIRST,),
        {**ENCODER, "mask": torch.full((T, T), float("-inf"), dtype=torch.float64).triu(1)},
    ),
    "a mask that stays": (
        lambda m, x, k: m.net(x[:, TOKENS], src_key_padding_mask=k < 1)[:, back(TOKENS)],
        lambda m, x, k: m.net(x, src_key_padding_mask=k < 1),
        (BATCH_FIRST, torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])),
        ENCODER,
    ),
    "steps of an LSTM": (
        lambda m, x: m.net(x[:, TOKENS])[0][:, back(TOKENS)],
        lambda m, x: m.net(x)[0],
        (BATCH_FIRST,),
        {"net": nn.LSTM(D, 6, batch_first=True)},
    ),
    "heads that are no groups": (
        lambda m, x: grouped(m, x, lambda q, k, v: (q[:, m.p], k[:, GROUPS], v[:, GROUPS])),
        grouped,
        (BATCH_FIRST,),
        {**GROUPED, "p": torch.tensor([1, 0, 2, 3])},
    ),
    "other scores of a tied table": (
        lambda m, i: F.linear(m.net(m.table(m.p[i])).relu(), m.table.weight)[..., back(m.p)],
        lambda m, i: F.linear(m.net(m.table(i)).relu(), m.table.weight),
        (IDS,),
        {"table": nn.Embedding(7, D), "net": layer(), "p": torch.tensor([4, 6, 0, 3, 1, 5, 2])},
    ),
    "channels whose gate is that of others": (
        lambda m, x: gated_channels(m, x[:, FEATURES], x),
        lambda m, x: gated_channels(m, x),
        IMAGE,
        {**SQUEEZED, "b": nn.Sequential(layer(4, D), nn.LayerNorm(D), nn.Softmax(-1))},
    ),
    "factors of the argument of a gate": (
        lambda m, x: m.down(F.silu(m.gate(x).tanh() * m.a) * m.up(x)),
        lambda m, x: m.down(F.silu(m.gate(x).tanh()) * m.up(x)),
        (BATCH_FIRST,),
        {**GATED, "a": number(12)},
    ),
    "a stream that is no turn": (
        lambda m, x: residual(m, x @ m.q, lambda h: h @ m.q, lambda h: h @ m.q.T) @ m.q.T,
        residual,
        (BATCH_FIRST,),
        {**BLOCKS, "q": number(D, D)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VANISHING)
def test_nothing_is_left_of_the_action(name: str) -> None:
    acted, plain, given, parts = VANISHING[name]
    found, wanted = left(acted, given, parts), left(plain, given, parts)
    assert operators(found) <= operators(wanted), text_of(found)


@pytest.mark.parametrize("name", STAYING)
def test_an_action_that_matters_stays(name: str) -> None:
    acted, plain, given, parts = STAYING[name]
    assert operators(left(acted, given, parts)) > operators(left(plain, given, parts))


def test_another_class_token_is_read_where_it_stands() -> None:
    other = {**CLASS, "p": torch.tensor([1, 0, 2, 3, 4, 5])}
    found = left(lambda m, x: with_class(m, x)[:, m.p][:, 0], (BATCH_FIRST,), other)
    text = text_of(found)
    assert "index_select" not in text and "select(x, -2, 0)" in text


BLOCKS_OF_TOKENS: dict[str, Function] = {
    "dense": lambda m, x: m.dense(x),
    "normalised": lambda m, x: m.norm(x),
    "shortcut": lambda m, x: x + m.dense(x).relu(),
    "attention": lambda m, x: F.scaled_dot_product_attention(x, m.dense(x), x),
    "gate": lambda m, x: x * x.mean(1, keepdim=True).sigmoid(),
    "softmax": lambda m, x: x.softmax(1),
    "scaled": lambda m, x: x * m.factor / 3,
    "split": lambda m, x: torch.cat(x.split(4, -1)[::-1], -1),
    "places": lambda m, x: x + m.place[TOKENS],
}
"""Layers that treat tokens alike; the last one knows the places, in the order that the tokens have inside."""


@pytest.mark.parametrize("seed", range(12))
def test_random_stacks_of_layers_that_treat_tokens_alike(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    names = list(BLOCKS_OF_TOKENS)
    chosen = [names[int(i)] for i in torch.randint(len(names), (4,), generator=generator)]

    def stack(m: Any, x: Tensor, *, acted: bool) -> Tensor:
        for name in chosen:
            x = x + m.place if name == "places" and not acted else BLOCKS_OF_TOKENS[name](m, x)
        return x

    parts = {"dense": layer(), "norm": nn.LayerNorm(D), "factor": number(D), "place": number(T, D)}
    acted = left(lambda m, x: stack(m, x[:, TOKENS], acted=True)[:, back(TOKENS)], (BATCH_FIRST,), parts)
    plain = left(lambda m, x: stack(m, x, acted=False), (BATCH_FIRST,), parts)
    assert operators(acted) <= operators(plain), f"{chosen}\n{text_of(acted)}"
