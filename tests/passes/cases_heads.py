"""Cases of `attention.heads`: heads that repeat others, in every form in which attention is written."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from rule_cases import Case, fires, leaves, number
from torch import Tensor, nn

from tdsl.factor.rank import Error

HEADS, WIDTH, INPUTS = 3, 4, 6
E = HEADS * WIDTH
TOKENS = (40, 5, INPUTS)
EXACT = 1e-8
"""What of a redundant head is left over by the damping of moments, which float64 shows."""
RULE = "factorize.attention.heads"


def repeated(heads: int = HEADS, shared: int = 1) -> dict[str, Tensor]:
    """Queries, keys, values and an output layer, where the last head scores like the first one.

    Its values are those of the first, mixed and shifted: its context is a linear function of another one.
    `shared` heads of queries have keys and values in common.
    """
    query, key, value = (number(heads, WIDTH, INPUTS + 1) for _ in range(3))
    query[-1], key[-1] = query[0], key[0]
    value[-1] = number(WIDTH, WIDTH) @ value[0]
    value[-1, :, -1] += number(WIDTH)
    if shared > 1:
        query = torch.cat([query, query.roll(1, 1)], 1).reshape(heads * shared, WIDTH, INPUTS + 1)
    rows = {name: part.reshape(-1, INPUTS + 1) for name, part in (("q", query), ("k", key), ("v", value))}
    split = {name: part[:, :INPUTS].contiguous() for name, part in rows.items()}
    split |= {f"{name}_b": part[:, INPUTS].contiguous() for name, part in rows.items()}
    return {**split, "o": number(7, heads * shared * WIDTH), "o_b": number(7)}


def in_heads(x: Tensor, heads: int = HEADS) -> Tensor:
    """[b, t, h·d] → [b, h, t, d]"""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def projected(
    m: nn.Module, x: Tensor, heads: int = HEADS, keys: int = HEADS
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of all heads."""
    return (
        in_heads(F.linear(x, m.q, m.q_b), heads),
        in_heads(F.linear(x, m.k, m.k_b), keys),
        in_heads(F.linear(x, m.v, m.v_b), keys),
    )


def out(m: nn.Module, mixed: Tensor) -> Tensor:
    """Contexts of heads put together and sent through the output layer."""
    return F.linear(mixed.transpose(1, 2).flatten(2), m.o, m.o_b)


def spelt_out(m: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Attention as products and a softmax, with a mask of all heads."""
    q, k, v = projected(m, x)
    return out(m, ((q @ k.transpose(2, 3)) / 2.0 + mask[:, None, None, :]).softmax(-1) @ v)


def fused(m: nn.Module, x: Tensor) -> Tensor:
    """Attention as one operator."""
    return out(m, F.scaled_dot_product_attention(*projected(m, x), is_causal=True))


def merged(m: nn.Module, x: Tensor) -> Tensor:
    """Queries, keys and values of one dense layer, cut apart and then into heads."""
    q, k, v = (in_heads(part) for part in F.linear(x, m.w, m.w_b).chunk(3, -1))
    return out(m, F.scaled_dot_product_attention(q, k, v))


def stacked(m: nn.Module, x: Tensor) -> Tensor:
    """The same, one axis for which it is, as in vision transformers."""
    parts = F.linear(x, m.w, m.w_b).reshape(*x.shape[:2], 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4)
    return out(m, F.scaled_dot_product_attention(*parts.unbind(0)))


def grouped(m: nn.Module, x: Tensor) -> Tensor:
    """Two heads of queries for each head of keys, which are copied."""
    q, k, v = projected(m, x, heads=2 * HEADS)
    b, _, t, d = k.shape
    k, v = (y[:, :, None].expand(b, HEADS, 2, t, d).reshape(b, 2 * HEADS, t, d) for y in (k, v))
    return out(m, F.scaled_dot_product_attention(q, k, v))


def shared_keys(m: nn.Module, x: Tensor) -> Tensor:
    """The same in one operator."""
    return out(m, F.scaled_dot_product_attention(*projected(m, x, heads=2 * HEADS), enable_gqa=True))


def rotated(m: nn.Module, x: Tensor) -> Tensor:
    """Queries and keys turned by their positions."""
    q, k, v = projected(m, x)
    q, k = (y * m.cos + torch.cat([-y[..., 2:], y[..., :2]], -1) * m.sin for y in (q, k))
    return out(m, F.scaled_dot_product_attention(q, k, v))


def normed(m: nn.Module, x: Tensor) -> Tensor:
    """Queries and keys of length one in each head."""
    q, k, v = projected(m, x)
    return out(m, F.scaled_dot_product_attention(F.rms_norm(q, [4], m.g), F.rms_norm(k, [4]), v))


ONE = repeated()
MERGED = {
    "w": torch.cat([ONE["q"], ONE["k"], ONE["v"]]),
    "w_b": torch.cat([ONE["q_b"], ONE["k_b"], ONE["v_b"]]),
}
MERGED |= {"o": ONE["o"], "o_b": ONE["o_b"]}
GROUPED = repeated(shared=2)
ANGLES = torch.arange(5, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1]).double()
TURNS = {"cos": ANGLES.cos(), "sin": ANGLES.sin()}
ALIBI = (
    -torch.tensor([1.0, 0.5, 1.0]).double()[:, None, None]
    * (torch.arange(5)[:, None] - torch.arange(5)).abs()
)


def distanced(m: nn.Module, x: Tensor) -> Tensor:
    """A table of distances for each head."""
    q, k, v = projected(m, x)
    return out(m, F.scaled_dot_product_attention(q, k, v, m.distances))


def unmixed(m: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Contexts that are an output as well."""
    mixed = F.scaled_dot_product_attention(*projected(m, x)).transpose(1, 2).flatten(2)
    return F.linear(mixed, m.o, m.o_b), mixed.sum(-1)


def shared_output(m: nn.Module, x: Tensor) -> Tensor:
    """Two attentions with one output layer."""
    q, k, v = projected(m, x)
    attend = F.scaled_dot_product_attention
    return out(m, attend(q, k, v)) + out(m, attend(q, k, v.flip(1).flip(1) * 2.0))


def keys_elsewhere(m: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Keys that are handed on, as a cache of them is."""
    q, k, v = projected(m, x)
    return out(m, F.scaled_dot_product_attention(q, k, v)), k


def called_twice(m: nn.Module, x: Tensor) -> Tensor:
    """One attention on the input and on the mirrored input."""
    return fused(m, x) - fused(m, x.flip(1))


def told_apart(m: nn.Module, x: Tensor) -> Tensor:
    """Every head sees distances in its own way, which is computed from its number."""
    q, k, v = projected(m, x)
    slopes = 2.0 ** -torch.arange(HEADS, dtype=x.dtype)
    return out(m, F.scaled_dot_product_attention(q, k, v, slopes[:, None, None] * m.distances))


def across_heads(m: nn.Module, x: Tensor) -> Tensor:
    """Scores that heads share out among themselves."""
    q, k, v = projected(m, x)
    return out(m, ((q @ k.transpose(2, 3)).softmax(-1) / 3 + (q @ k.transpose(2, 3)).softmax(1)) @ v)


FORMS = {
    "spelt out": (spelt_out, (TOKENS, TOKENS[:2]), ONE),
    "fused": (fused, (TOKENS,), ONE),
    "merged": (merged, (TOKENS,), MERGED),
    "stacked": (stacked, (TOKENS,), MERGED),
    "copied keys": (grouped, (TOKENS,), GROUPED),
    "shared keys": (shared_keys, (TOKENS,), GROUPED),
    "rotated": (rotated, (TOKENS,), {**ONE, **TURNS}),
    "normed": (normed, (TOKENS,), {**ONE, "g": number(WIDTH)}),
    "distances": (distanced, (TOKENS,), {**ONE, "distances": ALIBI}),
}
"""Attention in every form: function, inputs, weights."""
REFUSED = {
    "contexts are an output": (unmixed, ONE),
    "the output layer is shared": (shared_output, ONE),
    "keys are read elsewhere": (keys_elsewhere, ONE),
    "the weights are those of two calls": (called_twice, ONE),
    "heads are told apart": (told_apart, {**ONE, "distances": ALIBI[0]}),
    "a softmax sees all heads": (across_heads, ONE),
}
"""What keeps every head."""

EXPECTED = {
    "spelt out": """
        unsqueeze = unsqueeze(mask, -2)
        unsqueeze_1 = unsqueeze(unsqueeze, -2)
        linear_4 = linear(x, q_narrowed, q_b_narrowed)
        reshape_3 = reshape(linear_4, [40, 5, 2, 4])
        permute = permute(reshape_3, [0, 2, 1, 3])
        linear_5 = linear(x, k_narrowed, k_b_narrowed)
        reshape_4 = reshape(linear_5, [40, 5, 2, 4])
        permute_1 = permute(reshape_4, [0, 2, 1, 3])
        permute_2 = permute(permute_1, [0, 1, 3, 2])
        matmul_2 = matmul(permute, permute_2)
        div_1 = div(matmul_2, 2.0)
        add_1 = add(div_1, unsqueeze_1)
        softmax_1 = softmax(add_1, -1)
        linear_6 = linear(x, v_narrowed, v_b_narrowed)
        reshape_5 = reshape(linear_6, [40, 5, 2, 4])
        permute_3 = permute(reshape_5, [0, 2, 1, 3])
        matmul_3 = matmul(softmax_1, permute_3)
        permute_4 = permute(matmul_3, [0, 2, 1, 3])
        reshape_6 = reshape(permute_4, [40, 5, 8])
        linear_7 = linear(reshape_6, o_interpolative, o_b_heads)
    """,
    "merged": """
        linear_2 = linear(x, w_narrowed, w_b_narrowed)
        split = split(linear_2, [8, 8, 8], dim=-1)
        getitem_3 = split[0]
        reshape_3 = reshape(getitem_3, [40, 5, 2, 4])
        permute = permute(reshape_3, [0, 2, 1, 3])
        getitem_4 = split[1]
        reshape_4 = reshape(getitem_4, [40, 5, 2, 4])
        permute_1 = permute(reshape_4, [0, 2, 1, 3])
        getitem_5 = split[2]
        reshape_5 = reshape(getitem_5, [40, 5, 2, 4])
        permute_2 = permute(reshape_5, [0, 2, 1, 3])
        attention = attention(permute, permute_1, permute_2)
        permute_3 = permute(attention, [0, 2, 1, 3])
        reshape_6 = reshape(permute_3, [40, 5, 8])
        linear_3 = linear(reshape_6, o_interpolative, o_b_heads)
    """,
    "copied keys": """
        linear_4 = linear(x, q_narrowed, q_b_narrowed)
        reshape_5 = reshape(linear_4, [40, 5, 4, 4])
        permute = permute(reshape_5, [0, 2, 1, 3])
        linear_5 = linear(x, k_narrowed, k_b_narrowed)
        reshape_6 = reshape(linear_5, [40, 5, 2, 4])
        permute_1 = permute(reshape_6, [0, 2, 1, 3])
        unsqueeze_2 = unsqueeze(permute_1, -3)
        expand_2 = expand(unsqueeze_2, [40, 2, 2, 5, 4])
        reshape_7 = reshape(expand_2, [40, 4, 5, 4])
        linear_6 = linear(x, v_narrowed, v_b_narrowed)
        reshape_8 = reshape(linear_6, [40, 5, 2, 4])
        permute_2 = permute(reshape_8, [0, 2, 1, 3])
        unsqueeze_3 = unsqueeze(permute_2, -3)
        expand_3 = expand(unsqueeze_3, [40, 2, 2, 5, 4])
        reshape_9 = reshape(expand_3, [40, 4, 5, 4])
        attention = attention(permute, reshape_7, reshape_9)
        permute_3 = permute(attention, [0, 2, 1, 3])
        reshape_10 = reshape(permute_3, [40, 5, 16])
        linear_7 = linear(reshape_10, o_interpolative, o_b_heads)
    """,
    "fused": """
        linear_4 = linear(x, q_narrowed, q_b_narrowed)
        reshape_3 = reshape(linear_4, [40, 5, 2, 4])
        permute = permute(reshape_3, [0, 2, 1, 3])
        linear_5 = linear(x, k_narrowed, k_b_narrowed)
        reshape_4 = reshape(linear_5, [40, 5, 2, 4])
        permute_1 = permute(reshape_4, [0, 2, 1, 3])
        linear_6 = linear(x, v_narrowed, v_b_narrowed)
        reshape_5 = reshape(linear_6, [40, 5, 2, 4])
        permute_2 = permute(reshape_5, [0, 2, 1, 3])
        attention = attention(permute, permute_1, permute_2, causal=true)
        permute_3 = permute(attention, [0, 2, 1, 3])
        reshape_6 = reshape(permute_3, [40, 5, 8])
        linear_7 = linear(reshape_6, o_interpolative_weighted, o_b_heads_weighted)
    """,
}


def removed(rule: str, form: str, rank: object) -> Case:
    """A case in which the head that repeats another one goes."""
    function, inputs, parts = FORMS[form]
    parameters = {"rank": rank}
    return fires(
        rule, function, *inputs, parameters=parameters, precision=EXACT, expect=EXPECTED[form], **parts
    )


CASES = [
    removed(RULE, "spelt out", Error(1e-6)),
    removed(RULE, "merged", 2),
    removed(RULE, "copied keys", 2),
    removed(f"{RULE}_weighted", "fused", 2),
    *(
        leaves(RULE, function, TOKENS, parameters={"rank": 2}, because=why, **parts)
        for why, (function, parts) in REFUSED.items()
    ),
    leaves(
        f"{RULE}_weighted",
        unmixed,
        TOKENS,
        **ONE,
        parameters={"rank": 2},
        because="contexts are an output",
    ),
    leaves(
        RULE,
        lambda m, x: out(m, F.scaled_dot_product_attention(*projected(m, x, heads=1, keys=1))),
        TOKENS,
        **ONE,
        parameters={"rank": 2},
        because="there is a single head",
    ),
    leaves(
        RULE,
        fused,
        TOKENS,
        **{**ONE, "q": number(E, INPUTS)},
        parameters={"rank": Error(1e-6)},
        because="every head is needed",
    ),
]
