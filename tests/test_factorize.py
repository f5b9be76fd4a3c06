"""`tdsl.factorize`: a model in, a smaller trainable model out."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tdsl


def drawn(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def thin(layer: nn.Linear | nn.Conv2d, rank: int, seed: int) -> nn.Linear | nn.Conv2d:
    """The layer with a weight of that rank, as a kernel one that splits into rows and columns."""
    shape = layer.weight.shape
    if isinstance(layer, nn.Linear):
        weight = drawn(shape[0], rank, seed=seed) @ drawn(rank, shape[1], seed=seed + 1)
    else:
        vertical, horizontal = (
            drawn(rank, *shape[1:3], seed=seed),
            drawn(shape[0], rank, shape[3], seed=seed + 1),
        )
        weight = torch.einsum("rsi,trj->tsij", vertical, horizontal)
    layer.weight.data = weight / weight[0].norm()
    return layer


def dense(rank: int) -> tuple[nn.Module, Tensor]:
    layers = (
        thin(nn.Linear(32, 48), rank, 1),
        nn.GELU(),
        thin(nn.Linear(48, 48), rank, 3),
        nn.GELU(),
        nn.Linear(48, 4),
    )
    return nn.Sequential(*layers).eval(), drawn(4, 32, seed=9)


def convolutional(rank: int) -> tuple[nn.Module, Tensor]:
    layers = (
        thin(nn.Conv2d(8, 16, 3, padding=1), rank, 1),
        nn.ReLU(),
        thin(nn.Conv2d(16, 16, 3, stride=2), rank, 3),
        nn.ReLU(),
        nn.Flatten(),
        thin(nn.Linear(16 * 3 * 3, 24), rank, 5),
    )
    return nn.Sequential(*layers).eval(), drawn(2, 8, 8, 8, seed=9)


class Block(nn.Module):
    """A transformer block of 4 heads."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.qkv = thin(nn.Linear(32, 96), rank, 1)
        self.out = thin(nn.Linear(32, 32), rank, 3)
        self.wide = thin(nn.Linear(32, 64), rank, 5)
        self.narrow = thin(nn.Linear(64, 32), rank, 7)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        context = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(context.transpose(1, 2).flatten(2))
        return x + self.narrow(nn.functional.gelu(self.wide(x)))


def attending(rank: int) -> tuple[nn.Module, Tensor]:
    return Block(rank).eval(), drawn(2, 6, 32, seed=9)


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def error(result: Tensor, wanted: Tensor) -> float:
    return float((result - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("planted", [dense, convolutional, attending])
def test_a_planted_rank_is_all_that_is_kept(planted):
    model, x = planted(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    smaller = tdsl.factorize(model, x, rank=4)
    assert size(smaller) < 0.6 * size(model)
    assert error(smaller(x), model(x)) < 1e-4
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    less = tdsl.factorize(model, x, rank=2)  # the control: half of it is not enough
    assert error(less(x), model(x)) > 0.05


@pytest.mark.parametrize("planted", [dense, convolutional, attending])
def test_the_result_is_trained_like_any_module(planted):
    model, x = planted(4)
    smaller = tdsl.factorize(model, x, rank=2)
    wanted = model(x).detach()
    optimizer = torch.optim.Adam(smaller.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (smaller(x) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert all(parameter.grad is not None for parameter in smaller.parameters())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.25])
def test_a_ratio_is_the_share_of_numbers_that_a_layer_keeps(ratio):
    layer = nn.Linear(64, 96, bias=False)
    kept = size(tdsl.factorize(layer, drawn(2, 64), rank=ratio)) / size(layer)
    one_term = (64 + 96) / (64 * 96)
    assert ratio - one_term < kept <= ratio
    assert kept == size(tdsl.factorize(layer, drawn(2, 64), rank=f"ratio({ratio})")) / size(layer)


@pytest.mark.parametrize("rank", [2, 5, 12])
def test_the_factors_are_those_of_a_truncated_svd(rank):
    """At equal rank no two factors are closer, and as many numbers are kept (the peers' baseline, S01)."""
    layer = nn.Linear(64, 48)
    smaller = tdsl.factorize(layer, drawn(2, 64), rank=rank)
    factors = [p.detach().double() for p in smaller.parameters() if p.dim() == 2]
    inner, outer = sorted(factors, key=lambda p: p.shape[1] != 64)
    assert size(smaller) == rank * (64 + 48) + 48
    u, s, v = torch.linalg.svd(layer.weight.detach().double(), full_matrices=False)
    best = u[:, :rank] * s[:rank] @ v[:rank]
    assert error(outer @ inner, best) < 1e-5
    kernel = nn.Conv2d(8, 16, 3, bias=False)
    chain = [p.detach().double() for p in tdsl.factorize(kernel, drawn(1, 8, 9, 9), rank=rank).parameters()]
    down, across = sorted(chain, key=lambda p: p.shape[1] != 8)
    unfolded = kernel.weight.detach().double().permute(1, 2, 0, 3).reshape(24, 48)  # rows, then columns
    u, s, v = torch.linalg.svd(unfolded, full_matrices=False)
    best = u[:, :rank] * s[:rank] @ v[:rank]
    found = torch.einsum("rsi,trj->sitj", down[..., 0], across[:, :, 0]).reshape(24, 48)
    assert size(nn.ParameterList(chain)) == rank * (24 + 48)
    assert error(found, best) < 1e-5 < 1e-2 < error(found, unfolded)


def test_a_layer_whose_factors_would_be_larger_stays():
    layer = nn.Linear(64, 96, bias=False)
    assert size(tdsl.factorize(layer, drawn(2, 64), rank=60)) == size(layer)


@pytest.fixture(scope="module")
def skewed() -> tuple[nn.Module, list[Tensor], Tensor]:
    """Layers of full rank on inputs that are small in most directions."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(48, 64), nn.GELU(), nn.Linear(64, 48)).eval()
    scale = 0.7 ** torch.arange(48)
    turn = torch.linalg.qr(drawn(48, 48, seed=5)).Q
    batches = [(drawn(64, 48, seed=10 + i) * scale) @ turn for i in range(9)]
    return model, batches[:-1], batches[-1]


def test_calibration_data_make_a_better_model_of_the_same_size(skewed):
    model, batches, unseen = skewed
    blind = tdsl.factorize(model, batches[0], rank=0.5)
    planned = tdsl.factorize(model, batches[0], rank=0.5, calibration=batches)
    assert size(planned) <= 0.5 * size(model)
    assert all(parameter.requires_grad for parameter in planned.parameters())
    wanted = model(unseen)
    assert error(planned(unseen), wanted) < 0.5 * error(blind(unseen), wanted)


def test_data_of_another_kind_help_less(skewed):
    """The control: what is planned for other inputs is worse on these."""
    model, batches, unseen = skewed
    others = [drawn(64, 48, seed=30 + i) for i in range(8)]
    planned = tdsl.factorize(model, batches[0], rank=0.5, calibration=batches)
    misled = tdsl.factorize(model, batches[0], rank=0.5, calibration=others)
    assert error(planned(unseen), model(unseen)) < 0.5 * error(misled(unseen), model(unseen))


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        ("enrgy(0.9)", "did you mean `energy`"),
        (0, "a rank of 0 keeps nothing"),
        (1.5, r"ratio\(1.5\) is out of range"),
        (None, "this is no value for rank"),
    ],
)
def test_what_is_no_rank_is_an_error(rank, message):
    with pytest.raises(tdsl.TdslError, match=message):
        tdsl.factorize(nn.Linear(8, 8), drawn(2, 8), rank=rank)


@pytest.mark.parametrize("rank", [8, "energy(0.9)", 1.5, 0.0, None, True])
def test_with_data_a_rank_is_a_share_of_the_model(skewed, rank):
    model, batches, _ = skewed
    with pytest.raises(tdsl.TdslError, match="a share of the model's parameters") as caught:
        tdsl.factorize(model, batches[0], rank=rank, calibration=batches)
    assert caught.value.expected


def test_a_model_that_does_not_trace_is_an_error():
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(tdsl.TdslError, match="cannot be traced"):
        tdsl.factorize(Branch(), drawn(2, 8))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.cells = kind(48, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(x)[0]


LAYERS = {
    "linear": (lambda: nn.Linear(64, 96), drawn(3, 64)),
    "conv1d": (lambda: nn.Conv1d(24, 32, 5, padding=2), drawn(3, 24, 20)),
    "conv2d": (lambda: nn.Conv2d(24, 32, 3, stride=2), drawn(3, 24, 9, 9)),
    "conv3d": (lambda: nn.Conv3d(12, 16, 3, dilation=2), drawn(3, 12, 7, 7, 7)),
    "grouped": (lambda: nn.Conv2d(48, 48, 3, groups=2), drawn(3, 48, 9, 9)),
    "transposed1d": (lambda: nn.ConvTranspose1d(32, 24, 4, stride=2), drawn(3, 32, 9)),
    "transposed2d": (lambda: nn.ConvTranspose2d(32, 24, 3, stride=2), drawn(3, 32, 9, 9)),
    "transposed3d": (lambda: nn.ConvTranspose3d(16, 12, 3), drawn(3, 16, 5, 5, 5)),
    "embedding": (lambda: nn.Embedding(200, 48), torch.arange(12).reshape(3, 4)),
    "lstm": (lambda: Recurrent(nn.LSTM), drawn(3, 7, 48)),
    "gru": (lambda: Recurrent(nn.GRU), drawn(3, 7, 48)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_is_factorized(name):
    """Each keeps what its share has room for, and loses more with less."""
    torch.manual_seed(0)
    made, x = LAYERS[name]
    layer = made().eval()
    found = {rank: tdsl.factorize(layer, x, rank=rank) for rank in (0.7, 0.3)}
    sizes = {rank: size(smaller) for rank, smaller in found.items()}
    assert sizes[0.3] < sizes[0.7] < size(layer)
    wanted = layer(x)
    assert error(found[0.7](x), wanted) < error(found[0.3](x), wanted) < 1


class Language(nn.Module):
    """A model whose output layer is its table of words."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.words, self.dense = nn.Embedding(200, 48), nn.Linear(48, 48)
        self.head = nn.Linear(48, 200, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.dense(self.words(ids))))


def test_a_tied_table_shrinks_and_stays_tied():
    """Both users of the table become the same factors, in the file as well; the control is an untied one."""
    model, ids = Language().eval(), torch.arange(12).reshape(3, 4)
    model.words.weight.data = drawn(200, 6, seed=1) @ drawn(6, 48, seed=2) / 6
    smaller = tdsl.factorize(model, ids, rank=6)
    assert sum(tuple(p.shape) == (200, 6) for p in smaller.parameters()) == 1
    table = tdsl.factorize(Language(tied=False).eval(), ids, rank=6)
    assert sum(tuple(p.shape) == (200, 6) for p in table.parameters()) == 2
    assert size(smaller) < 0.5 * size(model)
    large = tdsl.factorize(model, ids, rank=40)  # both maps counted, no smaller: nothing may grow
    assert size(large) == size(model)


def test_a_depthwise_kernel_stays():
    """Its filters are small already: one term less of each would lose much and save little."""
    layer = nn.Conv2d(32, 32, 3, groups=32)
    assert size(tdsl.factorize(layer, drawn(2, 32, 9, 9), rank=0.5)) == size(layer)


# ---------------------------------------------------------------- mistakes, in the words of the call


def test_a_share_that_no_plan_reaches_is_told_with_the_least_one(skewed):
    model, batches, _ = skewed
    with pytest.raises(tdsl.TdslError, match=r"`rank=0.01` asks for 1% .* but [\d.]+% are left") as caught:
        tdsl.factorize(model, batches[0], rank="1%", calibration=batches)
    assert caught.value.span is None
    least = float(re.search(r"`rank` of (0\.\d+) or more", caught.value.expected)[1])
    smaller = tdsl.factorize(model, batches[0], rank=least, calibration=batches)
    assert size(smaller) <= least * size(model)


def test_a_model_without_a_layer_to_factorize_is_told(skewed):
    _, batches, _ = skewed
    with pytest.raises(tdsl.TdslError, match="no layer of it can be factorized"):
        tdsl.factorize(nn.LayerNorm(48), batches[0], calibration=batches)
    with pytest.warns(UserWarning, match=r"no layer .* at rank=0\.5: none was changed"):
        tdsl.factorize(nn.LayerNorm(48), batches[0])


def test_a_rank_beyond_every_layer_is_told(skewed):
    model, batches, _ = skewed
    with pytest.warns(UserWarning, match="no layer .* at rank=400"):
        same = tdsl.factorize(model, batches[0], rank=400)
    assert size(same) == size(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tdsl.factorize(model, batches[0], rank=4)  # the control: nothing to tell


@pytest.mark.parametrize("share", [1.0, "100%", np.float64(1)])
def test_all_numbers_are_the_model_as_it_is(skewed, share):
    """Controls: the integer 1 is a rank of one, and a share below keeps less."""
    model, batches, _ = skewed
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        same = tdsl.factorize(model, batches[0], rank=share)
    assert torch.equal(same(batches[0]), model(batches[0]))
    assert size(tdsl.factorize(model, batches[0], rank=1)) < size(model) / 4
    assert size(tdsl.factorize(model, batches[0], rank=0.9)) < size(model)


@pytest.mark.parametrize(
    ("samples", "message", "remedy"),
    [
        (lambda b: iter([]), "not a single sample", "gives its samples once"),
        (lambda b: b[0], "are one tensor", r"\[tensor\]"),
        (lambda b: 3, "`calibration` is of type int", "Iterable"),
        (lambda b: [x[:, :40] for x in b], r"has shape \[64, 40\]", "dynamic_shapes"),
        (lambda b: [x[:32] for x in b], r"has shape \[32, 48\]", "dynamic_shapes"),
        (lambda b: [x.double() for x in b], r"is torch\.float64", r"torch\.float32"),
        (lambda b: [(x, x) for x in b], "has 2 tensors", "1: input"),
        (lambda b: [x * torch.nan for x in b], "sample 1: its input input holds NaN", "samples of numbers"),
    ],
)
def test_samples_that_do_not_fit_are_told(skewed, samples, message, remedy):
    model, batches, _ = skewed
    with pytest.raises(tdsl.TdslError, match=message) as caught:
        tdsl.factorize(model, batches[0], calibration=samples(batches))
    assert re.search(remedy, str(caught.value))


@pytest.mark.parametrize(
    ("given", "taught"),
    [
        ("file.onnx", "`output='file.onnx'`"),
        ("mine.tdsl", "`rules='mine.tdsl'`"),
        (0.5, "`rank=0.5`"),
        ([1], ""),
    ],
)
def test_an_option_without_its_name_is_told_from_inputs(skewed, given, taught):
    model, batches, _ = skewed
    for call in (tdsl.factorize, tdsl.compile):
        with pytest.raises(tdsl.TdslError, match="`kwargs`, given third, is of type") as caught:
            call(model, batches[0], given)
        assert taught in (caught.value.hint or "")


def test_a_generator_is_as_good_as_a_list(skewed):
    model, batches, unseen = skewed
    found = [tdsl.factorize(model, batches[0], calibration=c) for c in (batches, (b for b in batches))]
    assert torch.equal(*(one(unseen) for one in found))


def test_few_rows_are_told(skewed):
    model, batches, _ = skewed
    few = [batch[:4] for batch in batches]
    with pytest.warns(UserWarning, match="few rows of calibration data: 24 for the 64 features"):
        tdsl.factorize(model, few[0], calibration=few)


def test_a_mistake_in_a_rank_does_not_point_into_a_text_of_ours():
    with pytest.raises(tdsl.TdslError, match="this is no value for rank") as caught:
        tdsl.factorize(nn.Linear(8, 8), drawn(2, 8), rank=[4])
    assert caught.value.span is None
    with pytest.raises(tdsl.TdslError, match="unknown name") as caught:
        tdsl.factorize(nn.Linear(8, 8), drawn(2, 8), rank="four")
    assert caught.value.span.source.text == "four"  # the caller's own text


@pytest.mark.parametrize("scalar", [np.float32(0.5), torch.tensor(0.5)])
def test_a_ratio_is_any_number(skewed, scalar):
    model, batches, _ = skewed
    plain = tdsl.factorize(model, batches[0], rank=0.5)
    assert size(tdsl.factorize(model, batches[0], rank=scalar)) == size(plain)


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64)).eval()


def weight_norm() -> nn.Sequential:
    model = perceptron()
    nn.utils.parametrizations.weight_norm(model[0])
    return model


@pytest.mark.parametrize("make", [perceptron, weight_norm])
def test_a_weight_that_is_computed_is_a_weight(make):
    """Both layers are cut, and nothing of the parametrization is left."""
    smaller = tdsl.factorize(make(), (torch.randn(4, 64),), rank=0.5)
    assert sum(p.numel() for p in smaller.parameters()) < 0.52 * 128 * 128
    assert not smaller.training


def test_factors_of_frozen_weights_are_frozen():
    model = perceptron()
    model[0].requires_grad_(False)
    smaller = tdsl.factorize(model, (torch.randn(4, 64),), rank=0.5)
    trained = {name.split(".")[0]: weight.requires_grad for name, weight in smaller.named_parameters()}
    assert trained == {"0": False, "2": True}


def test_a_model_without_numbers_is_told():
    with pytest.raises(tdsl.TdslError, match=r"`0\.weight` is on the device `meta`"):
        tdsl.factorize(perceptron().to("meta"), (torch.randn(4, 64, device="meta"),))


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda: torch.jit.trace(perceptron(), torch.randn(4, 64)), "nn.Module"),
        (lambda: nn.LazyLinear(4), "run the model once"),
    ],
    ids=["traced", "lazy"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_none_yet_says_what_to_give(make, remedy):
    with pytest.raises(tdsl.TdslError) as told:
        tdsl.factorize(make(), (torch.randn(4, 64),))
    assert remedy in (told.value.hint or "")


class Twice(nn.Module):
    """A layer that two branches share, and one that is called once."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.last = nn.Linear(48, 48), nn.Linear(48, 40)

    def forward(self, x):
        return self.last(self.shared(torch.tanh(self.shared(x))))


def test_layers_that_are_called_twice_stay_and_are_named():
    with pytest.warns(
        UserWarning, match=r"several calls of a layer read it, and rules are for one: shared\.weight"
    ):
        found = tdsl.factorize(Twice(), drawn(4, 48), rank=0.5)
    assert found.get_parameter("shared.weight").shape == (48, 48) and size(found) < size(Twice())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tdsl.factorize(nn.Sequential(nn.Linear(48, 48), nn.Linear(48, 40)), drawn(4, 48), rank=0.5)  # control


def test_the_report_names_layers_that_are_called_twice():
    data = [drawn(16, 48, seed=i) for i in range(8)]
    arguments = {"calibration": data, "latency": False, "parameters": {"size": 0.9, "drop": 0.9}}
    result = tdsl.compile(Twice(), data[0], pipeline="pipelines.compact", **arguments)
    assert ["shared.weight" in note.text for note in result.report.notes if note.kind == "nothing paid"] == [
        True
    ]
    exact = tdsl.compile(Twice(), data[0], latency=False)
    assert not [note for note in exact.report.notes if "shared.weight" in note.text]
