"""Mistakes in models and files become one short diagnostic at the user's line."""

import inspect
import textwrap

import pytest
import torch
from torch import nn
from torch.export import Dim

from tdsl.capture import capture, capture_spec, require_finite
from tdsl.errors import TdslError
from tdsl.frames import is_user_file

GOOD = """
    import torch
    from torch import nn

    def build():
        return nn.Linear(4, 2), torch.randn(3, 4), {"input": {0: "batch"}}

    def keywords():
        return nn.Linear(4, 2), {"input": torch.randn(3, 4)}

    def three():
        return 3

    def no_model():
        return "linear", torch.randn(3, 4)

    def no_inputs():
        return nn.Linear(4, 2), 7

    def asks(width):
        return nn.Linear(width, 2), torch.randn(3, width)

    def fails():
        return nn.Linear(4, 2).to("cpu"), torch.randn(3, 4) @ torch.randn(3, 4)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(textwrap.dedent(GOOD))
    return path


def diagnostic(action) -> str:
    with pytest.raises(TdslError) as caught:
        action()
    text = str(caught.value)
    assert len(text.splitlines()) <= 8, text
    return text


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # a branch on a value
            return x
        return -x


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return x * self.count


def test_a_branch_on_a_value_is_shown_at_its_line():
    text = diagnostic(lambda: capture(Branches(), torch.randn(3)))
    assert "if x.sum() > 0:" in text and "^" in text and "data-dependent" in text
    assert "torch.where" in text


def test_a_shape_that_does_not_fit_is_shown_at_the_users_line():
    class Wrong(nn.Module):
        def forward(self, x):
            return x @ torch.ones(5, 2)

    text = diagnostic(lambda: capture(Wrong(), torch.randn(3, 4)))
    assert "return x @ torch.ones(5, 2)" in text and "test_capture_errors.py" in text


def test_a_missing_argument_is_explained():
    assert "example inputs" in diagnostic(lambda: capture(nn.Linear(2, 2)))


def test_a_violated_range_quotes_the_dimension():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(3, 4)

    text = diagnostic(lambda: capture(Fixed(), torch.randn(3, 4), dynamic_shapes={"x": {0: Dim("batch")}}))
    assert "batch" in text


class Positions(nn.Module):
    """A table of positions for at most 16 tokens, as encoders have it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("numbers", torch.arange(16)[None])
        self.table = nn.Embedding(16, 4)

    def forward(self, x):
        return x + self.table(self.numbers[:, : x.shape[1]])


def test_a_size_given_by_its_name_takes_the_range_of_the_model():
    example = torch.randn(2, 5, 4)
    captured = capture(Positions(), example, dynamic_shapes={"x": {0: "batch", 1: "length"}})
    batch, length = (captured.dynamic_axes[0][axis] for axis in (0, 1))
    assert captured.narrowed == ("length",) and captured.bounds == (
        f"the model takes length from {length.minimum} to 16",
    )
    assert (length.name, length.maximum) == ("length", 16) and (batch.name, batch.maximum) == ("batch", None)


def test_what_torch_asks_of_a_named_size_and_not_of_others_is_no_reason_to_refuse():
    """A convolution over samples whose number the stride does not divide asks for a product of sizes."""

    class Speech(nn.Module):
        def forward(self, x, scale):
            steps = (x.shape[-1] - 10) // 5 + 1
            return x.unfold(-1, 10, 5).mean(-1)[:, :steps] * scale if (steps - 1) ** 2 > 1 else x

    spec = {"x": {0: "batch", 1: "samples"}, "scale": {0: "batch"}}
    captured = capture(Speech(), (torch.randn(2, 40), torch.randn(2, 1)), dynamic_shapes=spec)
    assert [axis.name for axis in captured.dynamic_axes[0].values()] == ["batch", "samples"]
    assert captured.dynamic_axes[1][0] == captured.dynamic_axes[0][0]
    x, scale = torch.randn(3, 57), torch.randn(3, 1)
    torch.testing.assert_close(captured.module(x, scale), captured.original(x, scale))


def test_a_range_that_the_user_gave_is_not_narrowed():
    spec = {"x": {0: "batch", 1: Dim("length", max=20)}}
    text = diagnostic(lambda: capture(Positions(), torch.randn(2, 5, 4), dynamic_shapes=spec))
    assert "Dim('length', max=16)" in text


def test_a_name_alone_does_not_stand_for_one_size():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(3, 4) + x

    x = torch.randn(3, 4)
    text = diagnostic(lambda: capture(Fixed(), x, dynamic_shapes={"x": {0: "batch"}}))
    assert "`batch`" in text and "right for 3 alone" in text and "return x.reshape(3, 4) + x" in text
    assert capture(Fixed(), x).dynamic_axes == ({},)  # nothing of the refused sizes is left on the example


@pytest.mark.parametrize("named", [True, False])
def test_the_line_that_makes_a_number_of_a_size_is_shown(named):
    """The other loop, over a size that is given, is not to blame."""

    class Steps(nn.Module):
        def forward(self, x):
            x = torch.cat([x for _ in range(x.shape[2])], 2)
            steps = [x[:, step] for step in range(x.shape[1])]
            return torch.stack(steps, 1)

    sizes = {0: "batch", 1: "length"} if named else {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    text = diagnostic(lambda: capture(Steps(), torch.randn(2, 5, 3), dynamic_shapes={"x": sizes}))
    assert "for step in range(x.shape[1])" in text and "^" in text and "right for 5 alone" in text
    assert ("`length`" in text) is named and "dynamic_shapes" in text


def test_what_torch_logs_of_sizes_is_not_shown_and_still_can_be(caplog):
    spec = {"x": {0: "batch", 1: "length"}}
    with caplog.at_level("INFO", logger="torch.fx.experimental.symbolic_shapes"):
        capture(Positions(), torch.randn(2, 5, 4), dynamic_shapes=spec)
    assert not caplog.records


def test_a_model_that_writes_its_buffer_is_refused_by_name():
    assert "`count`" in diagnostic(lambda: capture(Counter(), torch.randn(3)))


@pytest.mark.parametrize("value, word", [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_a_parameter_that_is_not_finite_is_named(value, word):
    model = nn.Sequential(nn.Linear(4, 2))
    with torch.no_grad():
        model[0].bias[1] = value
    text = diagnostic(lambda: capture(model.eval(), torch.randn(3, 4)))
    assert "`0.bias` has 1" in text and word in text


def test_an_infinite_buffer_is_a_mask_and_a_nan_one_is_not():
    module = nn.Module()
    module.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    require_finite(module)
    module.mask[0] = float("nan")
    assert "buffer `mask`" in diagnostic(lambda: require_finite(module))


def test_files_and_things_that_are_no_model_are_refused(tmp_path, caplog):
    assert "no file" in diagnostic(lambda: capture(tmp_path / "missing.pt2"))
    (tmp_path / "noise.pt2").write_bytes(b"noise")
    assert "not a saved torch.export program" in diagnostic(lambda: capture(tmp_path / "noise.pt2"))
    assert not caplog.records, "torch's own traceback stays off the terminal"
    assert "cannot capture an int" in diagnostic(lambda: capture(3))


def test_names_must_fit():
    model, x = nn.Linear(4, 2), torch.randn(3, 4)
    assert "1 tensor inputs" in diagnostic(lambda: capture(model, x, input_names=["a", "b"]))

    class Two(nn.Module):
        def forward(self, x):
            return x, -x

    assert "given twice" in diagnostic(lambda: capture(Two(), x, output_names=["y", "y"]))


# ---------------------------------------------------------------- path.py:function


def test_a_function_in_a_file_is_captured(file):
    captured = capture_spec(f"{file}:build")
    assert captured.input_names == ("input",) and captured.dynamic_axes[0][0].name == "batch"
    assert capture_spec(f"{file}:keywords").kwargs.keys() == {"input"}


@pytest.mark.parametrize(
    "function, words",
    [
        ("biuld", ["no function `biuld`", "did you mean `build`"]),
        ("three", ["returned an int", "(model, example_inputs)"]),
        ("no_model", ["is a str", "torch.nn.Module"]),
        ("no_inputs", ["are an int"]),
        ("asks", ["`asks` in ", "asks for width", "model.py:20:", "without arguments"]),
        ("fails", ["raised RuntimeError", "torch.randn(3, 4) @ torch.randn(3, 4)", "model.py:"]),
    ],
)
def test_a_function_that_is_wrong_is_explained(file, function, words):
    text = diagnostic(lambda: capture_spec(f"{file}:{function}"))
    assert all(word in text for word in words), text


def test_a_file_that_is_missing_broken_or_names_nothing_is_explained(file, tmp_path):
    assert "no file" in diagnostic(lambda: capture_spec(f"{tmp_path}/none.py:build"))
    assert "names no function" in diagnostic(lambda: capture_spec(str(file)))
    broken = tmp_path / "broken.py"
    broken.write_text("def build(:\n    pass\n")
    text = diagnostic(lambda: capture_spec(f"{broken}:build"))
    assert "not valid Python" in text and "def build(:" in text
    broken.write_text("import a_package_nobody_has\n")
    text = diagnostic(lambda: capture_spec(f"{broken}:build"))
    assert "ModuleNotFoundError" in text and "import a_package_nobody_has" in text


def test_pythons_own_files_are_never_shown_as_the_users():
    assert not is_user_file(inspect.__file__)
    assert not is_user_file(torch.__file__)
    assert is_user_file(__file__)
    assert is_user_file(pytest.__file__)  # an installed package may hold the user's model


def test_a_result_that_is_no_tensor_names_what_may_be_returned():
    class Cache:
        """Keys and values of earlier calls, as models that generate text return them."""

    class Generates(nn.Module):
        def forward(self, x):
            return x, Cache()

    text = diagnostic(lambda: capture(Generates(), (torch.randn(2, 3),)))
    assert "Cache" in text and "`use_cache` is False" in text
