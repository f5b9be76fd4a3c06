"""A residual stream of fewer channels: exact where it holds no more, refused where one is seen alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from rewriting import library
from torch import Tensor, nn

import tdsl
import tdsl.symmetry.hidden.streams as hidden_streams
from tdsl.capture import capture
from tdsl.engine.census import copied
from tdsl.engine.journal import Applied, Journal
from tdsl.errors import TdslError
from tdsl.prepare import prepare

WIDTH, HEADS, WORDS, HELD = 24, 3, 30, 9

FOLDED = "repeat cleanup.*, fold.*, narrow.norms.*, narrow.spelt_norms until stable"


class Spelt(nn.Module):
    """The root mean square as language models write it."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(1 + 0.3 * torch.randn(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def norm(kind: str) -> nn.Module:
    if kind == "spelt":
        return Spelt()
    made: Any = nn.RMSNorm(WIDTH, eps=1e-6) if kind == "rms" else nn.LayerNorm(WIDTH)
    made.weight.data = 1 + 0.3 * torch.randn(WIDTH)
    if kind == "layer":
        made.bias.data = 0.1 * torch.randn(WIDTH)
    return made


class Block(nn.Module):
    """Attention and a gated feed-forward network, each behind a norm."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.second = norm(kind), norm(kind)
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.o, self.gate, self.up = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 40), nn.Linear(WIDTH, 40)
        self.down = nn.Linear(40, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        q, k, v = (
            f(h).unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.o(mixed)
        h = self.second(x)
        return x + self.down(nn.functional.silu(self.gate(h)) * self.up(h))


class Language(nn.Module):
    """A small language model; its stream holds `held` directions. `beside` reads it, too."""

    def __init__(self, kind: str = "rms", held: int = HELD, beside: Any = None) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Parameter(torch.randn(6, WIDTH))
        self.blocks = nn.ModuleList(Block(kind) for _ in range(2))
        self.last, self.head, self.beside = norm(kind), nn.Linear(WIDTH, WORDS, bias=False), beside
        basis = torch.linalg.qr(torch.randn(WIDTH, held))[0]
        inside = basis @ basis.T
        self.words.weight.data @= inside
        self.places.data @= inside
        for block in self.blocks:
            for layer in (block.o, block.down):
                layer.weight.data = inside @ layer.weight.data
                layer.bias.data = inside @ layer.bias.data

    def forward(self, ids: Tensor) -> Any:
        x = self.words(ids) + self.places
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.last(x))
        return logits if self.beside is None else (logits, self.beside(x))


IDS = [torch.randint(0, WORDS, (4, 6), generator=torch.Generator().manual_seed(i)) for i in range(12)]


def run(model: nn.Module, step: str, before: str = FOLDED, known: Any = IDS) -> tuple[nn.Module, Applied]:
    """The rewritten model, and the entry of the step."""
    text = f"pipeline p {{\n{before}\n{step}\ncheck error <= 1%\n}}\n"
    prepared = prepare(
        model.eval(),
        (IDS[0],),
        pipeline="p",
        rules=library(text),
        dynamic_shapes={"ids": {0: "batch"}},
        calibration=known,
        verified=False,
    )
    module, journal = copied(prepared.captured.module), Journal()
    prepared.runner.run(module, journal)
    return module, journal.entries[-1]


@pytest.mark.parametrize("kind", ["rms", "spelt", "layer"])
def test_a_stream_that_holds_less_is_narrowed_exactly(kind: str) -> None:
    model = Language(kind)
    module, entry = run(model, f"once narrow.stream(width={HELD})")
    assert entry.rule == "narrow.stream" and entry.error is not None and entry.error < 1e-6
    for path in ("words.weight", "places"):
        assert module.get_parameter(path).shape[-1] == HELD
    assert module.get_parameter("blocks.0.down.weight").shape == (HELD, 40)
    torch.testing.assert_close(module(IDS[-1]), model(IDS[-1]), rtol=1e-4, atol=1e-4)
    assert float(model(IDS[-1]).detach().std()) > 0.3
    assert sum(p.numel() for p in module.parameters()) < 0.6 * sum(p.numel() for p in model.parameters())


def test_the_width_follows_the_spectrum_and_less_is_lost_with_more() -> None:
    module, _ = run(Language(), "once narrow.stream(width=energy(99.999%))")
    assert module.get_parameter("places").shape[-1] == HELD
    errors = [run(Language(), f"once narrow.stream(width={width})")[1].error or 0 for width in (4, 6, 8)]
    assert errors == sorted(errors, reverse=True) and errors[-1] > 0.05


def test_words_are_predicted_better_than_without_the_smallest_channels() -> None:
    """Perplexity at equal width, against channels cut by magnitude at the scale that is best."""
    model = Language(held=WIDTH)
    module, _ = run(model, "once narrow.stream(width=16)")
    writers = [model.words.weight, model.places, *(b.o.weight.T for b in model.blocks)]
    sizes = torch.cat([*writers, *(b.down.weight.T for b in model.blocks)]).norm(dim=0)
    cut = sizes.argsort()[: WIDTH - 16]
    pruned = copy.deepcopy(model)
    for rows in (pruned.words.weight, pruned.places):
        rows.data[:, cut] = 0
    for block in pruned.blocks:
        for layer in (block.o, block.down):
            layer.weight.data[cut], layer.bias.data[cut] = 0, 0
    with torch.no_grad():
        wanted, found = model(IDS[-1]).softmax(-1), module(IDS[-1])
        plain = min(perplexity(pruned(IDS[-1]) * scale, wanted) for scale in (0.5, 0.8, 1.0, 1.25))
        own = perplexity(model(IDS[-1]), wanted)
        assert 0 < perplexity(found, wanted) - own < 0.5 * (plain - own)


def perplexity(logits: Tensor, wanted: Tensor) -> float:
    return float(nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(0, 1)).exp())


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_a_norm_is_told_how_many_channels_it_had(kind: str) -> None:
    """Without the factor √(d/k) a narrower norm divides by too little."""
    model = Language(kind)
    module, _ = run(model, f"once narrow.stream(width={HELD})")
    [gain] = [p for name, p in module.named_parameters() if name.endswith("gain")]
    torch.testing.assert_close(gain.data, torch.full((HELD,), (WIDTH / HELD) ** 0.5))
    gain.data.fill_(1.0)
    expected = model(IDS[-1]).detach()
    assert float((module(IDS[-1]).detach() - expected).norm() / expected.norm()) > 0.2


def test_the_file_is_verified() -> None:
    text = library(f"pipeline p {{\n{FOLDED}\nonce narrow.stream(width={HELD})\ncheck error <= 0.01%\n}}")
    model = Language().eval()
    result = tdsl.compile(model, (IDS[0],), pipeline="p", rules=text, calibration=IDS, latency=False)
    assert result.report.correctness.passed
    assert result.report.result.parameters < 0.6 * result.report.original.parameters


class Sorted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sort(x, dim=-1)[0].sum(-1)


class Largest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x).sum(-1)


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        (Sorted(), "sort"),
        (Largest(), "relu sees single channels of the stream"),
        (nn.Identity(), "a graph output"),
    ],
)
def test_what_sees_single_channels_is_refused_by_name(beside: nn.Module, message: str) -> None:
    with pytest.raises(TdslError, match=message) as raised:
        run(Language(beside=beside), "once narrow.stream(width=9)")
    assert "words.weight" in raised.value.message
    assert raised.value.span is not None and raised.value.span.line == 3


def test_a_second_reader_of_a_root_mean_square_stream_is_rewritten_too() -> None:
    model = Language(beside=nn.Linear(WIDTH, 2))
    module, _ = run(model, f"once narrow.stream(width={HELD})")
    assert module.get_parameter("beside.weight").shape == (2, HELD)
    torch.testing.assert_close(module(IDS[-1])[1], model(IDS[-1])[1], rtol=1e-4, atol=1e-4)


def test_what_reads_the_mean_beside_layer_norms_is_refused() -> None:
    with pytest.raises(TdslError, match="reads the stream with its mean"):
        run(Language("layer", beside=nn.Linear(WIDTH, 2)), "once narrow.stream(width=9)")


def test_gains_are_folded_first_and_a_gain_inside_the_stream_is_refused() -> None:
    with pytest.raises(TdslError, match=r"repeat narrow\.norms"):
        run(Language(), "once narrow.stream(width=9)", before="repeat cleanup.* until stable")

    class Behind(nn.Module):  # as BERT: the stream is what norms make
        def __init__(self) -> None:
            super().__init__()
            self.words, self.mix = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WIDTH)
            self.norm, self.head = norm("layer"), nn.Linear(WIDTH, 3)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.norm(self.words(ids))
            return self.head(x + self.mix(x))

    with pytest.raises(TdslError, match="its gain is in the stream"):
        run(Behind(), "once narrow.stream(width=9)")


def test_tied_embeddings_stay_tied_and_small() -> None:
    model = Language()
    model.last = nn.RMSNorm(WIDTH, eps=1e-6, elementwise_affine=False)
    model.head.weight = model.words.weight
    module, _ = run(model, f"once narrow.stream(width={HELD})")
    tables = [p for p in module.parameters() if p.shape == (WORDS, HELD)]
    assert len(tables) == 1
    torch.testing.assert_close(module(IDS[-1]), model(IDS[-1]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("step", "given", "message"),
    [
        ("once narrow.stream(width=9)", {"known": ()}, "needs calibration data"),
        ("once narrow.stream(width=99)", {}, "rank 99 asked of a matrix"),
        ('once narrow.stream(width="wide")', {}, "no value for width"),
    ],
)
def test_mistakes_are_named_at_their_line(step: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(TdslError, match=message) as raised:
        run(Language(), step, **given)
    assert raised.value.span is not None and raised.value.span.line == 3


def test_a_model_without_a_stream_is_left_alone() -> None:
    model = nn.Sequential(nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, 4))
    text = library("pipeline p { once narrow.stream\n check error <= 1% }")
    result = tdsl.compile(model, (IDS[0],), pipeline="p", rules=text, calibration=IDS, latency=False)
    assert result.report.rewrites == ()


def test_streams_are_found_with_their_norms() -> None:
    captured = capture(Language(held=WIDTH).eval(), (IDS[0],))
    [stream] = hidden_streams.streams(captured.module)
    assert stream.size == WIDTH and len(stream.norms) == len(stream.read) == 5
    assert stream.refused is not None and "repeat narrow.norms" in stream.refused.reason
