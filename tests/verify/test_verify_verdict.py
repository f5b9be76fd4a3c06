"""The verdict on planted faults and on honest files, through onnxruntime and through torch."""

import copy
import io
import math
from dataclasses import replace

import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from tdsl.errors import TdslError
from tdsl.verify import (
    Contract,
    Input,
    Sample,
    double_runs,
    draw_samples,
    guilty,
    module_runner,
    session_latency,
    session_runner,
    verify,
)


class Net(nn.Module):
    """Two dense layers, the second with a batch-norm scale that an exact rule may fold into it."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a = nn.Linear(8, 16)
        self.b = nn.Linear(16, 5)
        self.norm = nn.BatchNorm1d(5)
        with torch.no_grad():
            for value in (*self.parameters(), self.norm.running_mean):
                value.copy_(torch.randn(value.shape, generator=generator))
            self.norm.running_var.copy_(torch.rand(5, generator=generator) + 0.5)

    def forward(self, x):
        return {"score": self.norm(self.b(torch.tanh(self.a(x)))), "gate": torch.sigmoid(self.a(x))}


def folded(model, eps=None):
    """The model with its batch-norm folded into the layer before it; `eps` plants a wrong rule."""
    result = copy.deepcopy(model)
    norm = model.norm
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + (norm.eps if eps is None else eps))
    with torch.no_grad():
        result.b.weight.copy_(scale[:, None] * model.b.weight.double())
        result.b.bias.copy_(scale * (model.b.bias.double() - norm.running_mean) + norm.bias)
    result.norm = nn.Identity()
    return result.eval()


MODEL = Net().eval()
EXAMPLE = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
NAMES = ("score", "gate")
ORIGINAL = module_runner(MODEL, (EXAMPLE,))
HELD_OUT = [(torch.randn(1, 8, generator=torch.Generator().manual_seed(i)),) for i in range(2, 6)]
SAMPLES = draw_samples([Input("x", EXAMPLE, {0: "batch"})], ranges={"batch": (1, 16)}, held_out=HELD_OUT)


def export(model):
    buffer = io.BytesIO()
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(model, (EXAMPLE,), dynamic_shapes=({0: batch},), dynamo=True, verbose=False)
    program.save(buffer)
    return onnx.load_model_from_string(buffer.getvalue())


@pytest.fixture(scope="module")
def file():
    return export(MODEL)


@pytest.fixture(scope="module")
def folded_file():
    return export(folded(MODEL))


def session(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])


def with_weight(file, shape, change):
    """A copy of `file` in which the first initializer of `shape` went through `change`."""
    spoilt = copy.deepcopy(file)
    for weight in spoilt.graph.initializer:
        value = numpy_helper.to_array(weight)
        if value.shape == shape:
            weight.CopyFrom(numpy_helper.from_array(change(value.copy()), weight.name))
            return spoilt
    raise AssertionError(f"no initializer of shape {shape}")


def judge(file, *bounds, exact=False, rewritten=None, samples=SAMPLES, **options):
    run = file if callable(file) else session_runner(session(file))
    if exact and "double" not in options:
        options["double"] = double_runs(MODEL, rewritten, (EXAMPLE,))
    return verify(
        ORIGINAL, run, samples, Contract.parse(*bounds), exact=exact, output_names=NAMES, steps=6, **options
    )


def altered(change):
    """The original with `change` made to its tuple of outputs."""
    return lambda inputs: change(*ORIGINAL(inputs))


def broken(verdict):
    return {violation.metric for violation in verdict.violations}


# ---------------------------------------------------------------- honest files


def test_the_original_exported_passes_as_exact_and_keeps_a_strict_contract(file):
    verdict = judge(file, "error <= 0.001%", "cosine >= 0.9999", exact=True, rewritten=MODEL)
    assert verdict.passed, str(verdict)
    assert not verdict.warnings
    assert {row.sample for row in verdict.rows} == {sample.name for sample in SAMPLES}
    assert (verdict.judged_on, verdict.judged_samples) == ("held-out", 4)


def test_a_folded_batch_norm_is_exact_up_to_rounding(folded_file):
    verdict = judge(folded_file, exact=True, rewritten=folded(MODEL))
    assert verdict.passed, str(verdict)
    rounding = [row.rounding for row in verdict.rows if row.output == "score"]
    assert all(r.in_double > 0 for r in rounding)  # the folded weights were rounded to float32
    assert all(r.original > 0 for r in rounding)


def test_rewriting_in_float64_gets_the_sharp_bound():
    double = double_runs(copy.deepcopy(MODEL).double(), folded(copy.deepcopy(MODEL).double()), (EXAMPLE,))
    verdict = judge(module_runner(folded(MODEL), (EXAMPLE,)), exact=True, double=double)
    assert verdict.passed, str(verdict)
    assert max(row.rounding.in_double for row in verdict.rows) < 1e-14
    assert max(row.rounding.allowed_in_double for row in verdict.rows) < 1e-11


def test_an_approximation_within_its_contract_passes_and_beyond_it_fails():
    off = altered(lambda score, gate: (score * 1.01, gate))
    kept = judge(off, "error <= 2%", "cosine >= 0.999")
    assert kept.passed
    assert kept.judged.error == pytest.approx(0.01, rel=1e-3)
    verdict = judge(off, "error <= 0.5%")
    (violation,) = verdict.violations
    assert (violation.metric, violation.output, violation.bound) == ("error", "score", 0.005)
    assert violation.measured == pytest.approx(0.01, rel=1e-3)
    assert violation.sample.startswith("held-out")
    assert str(violation).startswith("error is 0.01, the contract says error <= 0.005 (output 'score'")


def test_the_contract_is_judged_on_held_out_samples_and_hard_ones_are_reported():
    def only_wrong_on_the_example(inputs):
        score, gate = ORIGINAL(inputs)
        return (score * 2 if inputs[0].shape[0] != 1 else score), gate

    verdict = judge(only_wrong_on_the_example, "error <= 1%")
    assert verdict.passed
    assert dict(verdict.groups)["example"].error == pytest.approx(1)
    without = [sample for sample in SAMPLES if sample.kind != "held-out"]
    assert broken(judge(only_wrong_on_the_example, "error <= 1%", samples=without)) == {"error"}


# ---------------------------------------------------------------- planted faults


def test_a_file_that_is_constant_zero_fails_whatever_the_contract():
    verdict = judge(altered(lambda score, gate: (score * 0, gate)), "error <= 500%")
    assert broken(verdict) == {"varies"}


def test_a_wrong_bias_in_the_file_is_beyond_rounding(folded_file):
    def nudge(value):
        value[2] += 1e-4
        return value

    verdict = judge(with_weight(folded_file, (5,), nudge), exact=True, rewritten=folded(MODEL))
    assert broken(verdict) == {"rounding"}
    assert verdict.violations[0].output == "score"


@pytest.mark.parametrize("eps", [2e-5, 1e-3])
def test_a_rule_that_folds_with_the_wrong_eps_is_found_in_float64(eps):
    double = double_runs(
        copy.deepcopy(MODEL).double(), folded(copy.deepcopy(MODEL).double(), eps), (EXAMPLE,)
    )
    verdict = judge(module_runner(folded(MODEL, eps), (EXAMPLE,)), exact=True, double=double)
    assert "rounding in float64" in broken(verdict)


def test_a_capture_of_another_function_is_no_rounding_of_the_original():
    """What runs for the original in float64 is off, and the file agrees with it."""
    other = folded(copy.deepcopy(MODEL), 1e-3)
    double = double_runs(other, other, (EXAMPLE,))
    verdict = judge(module_runner(other, (EXAMPLE,)), exact=True, double=double)
    (violation,) = verdict.violations
    assert (violation.metric, violation.output) == ("capture", "score")
    assert str(violation).startswith("the captured graph, in float64, is")
    alone = replace(
        double, narrow=None
    )  # the control: without its own rounding it passes for a poor condition
    assert judge(module_runner(other, (EXAMPLE,)), exact=True, double=alone).passed


def test_a_permuted_output_is_rejected():
    permuted = altered(lambda score, gate: (score.flip(-1), gate))
    assert broken(judge(permuted, exact=True)) == {"rounding"}
    assert broken(judge(permuted, "cosine >= 0.98")) == {"cosine"}


def test_swapped_outputs_are_rejected():
    assert "form" in broken(judge(altered(lambda score, gate: (gate, score))))


def test_a_missing_output_is_rejected():
    verdict = judge(altered(lambda score, gate: (score,)), "error <= 2%")
    assert "outputs" in broken(verdict)


def test_another_dtype_is_rejected():
    assert broken(judge(altered(lambda score, gate: (score.double(), gate)))) == {"form"}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("exact", [True, False])
def test_a_value_that_is_not_finite_is_rejected(bad, exact):
    def spoil(inputs):
        score, gate = ORIGINAL(inputs)
        score[-1, -1] = bad
        return score, gate

    assert "finite" in broken(judge(spoil, exact=exact))


def test_nan_in_hard_samples_only_is_rejected_too():
    def fails_on_zeros(inputs):
        score, gate = ORIGINAL(inputs)
        return (score if inputs[0].any() else score * math.nan), gate

    (violation,) = judge(fails_on_zeros, "error <= 2%").violations
    assert (violation.metric, violation.sample) == ("finite", "zeros")


def test_nan_of_the_rewritten_module_in_float64_is_rejected():
    double = double_runs(MODEL, MODEL, (EXAMPLE,))
    lost = type(double)(double.original, lambda inputs: tuple(o * math.nan for o in double.original(inputs)))
    assert broken(judge(ORIGINAL, exact=True, double=lost)) == {"rounding in float64"}


def test_another_shape_of_the_rewritten_module_in_float64_is_rejected():
    double = double_runs(MODEL, MODEL, (EXAMPLE,))
    turned = type(double)(double.original, lambda inputs: tuple(o[..., :2] for o in double.original(inputs)))
    assert broken(judge(ORIGINAL, exact=True, double=turned)) == {"rounding in float64"}


def test_a_file_that_does_not_run_at_some_size_is_rejected():
    def static(inputs):
        if inputs[0].shape[0] == 16:
            raise RuntimeError("Got invalid dimensions\nat node 3")
        return ORIGINAL(inputs)

    (violation,) = judge(static).violations
    assert str(violation) == "the result does not run: Got invalid dimensions (sample 'batch=16')"


# ---------------------------------------------------------------- rounding, and what cannot be known


def test_float32_noise_is_accepted_and_a_thousand_times_as_much_is_not():
    eps = torch.finfo(torch.float32).eps
    for size, passes in ((1, True), (1000, False)):
        generator = torch.Generator().manual_seed(7)

        def noisy(inputs, size=size, generator=generator):
            return tuple(
                value * (1 + size * eps * torch.randn(value.shape, generator=generator))
                for value in ORIGINAL(inputs)
            )

        assert judge(noisy, exact=True).passed is passes


def test_large_values_on_a_hard_sample_excuse_no_error_on_ordinary_ones():
    """What is wrong is far below rounding of the outputs of the hard sample, and of it alone."""
    large = Sample("large", "hard", (torch.full((4, 8), 1e6),))
    original = module_runner(nn.Linear(8, 3), (EXAMPLE,))

    def wrong(inputs):
        (value,) = original(inputs)
        return (value + 1e-3,)

    samples = [Sample("example", "example", (EXAMPLE,)), large]
    assert broken(verify(original, original, samples, exact=True)) == set()
    verdict = verify(original, wrong, samples, exact=True)
    assert {(v.metric, v.sample) for v in verdict.violations} == {("rounding", "example")}
    assert broken(verify(original, wrong, [large], exact=True)) == set()


def test_without_float64_the_bound_is_looser_and_the_verdict_says_so():
    verdict = judge(ORIGINAL, exact=True, double=None, not_in_double="it narrows float64 inside")
    assert verdict.passed
    assert verdict.warnings == ("rounding was not measured in float64: it narrows float64 inside",)
    wrong = altered(lambda score, gate: (score + 1e-3, gate))
    assert broken(judge(wrong, exact=True, double=None)) == {"rounding"}


def test_an_approximate_pipeline_without_a_contract_is_warned_about():
    (warning,) = judge(altered(lambda score, gate: (-score, gate))).warnings
    assert "without a contract" in warning


def test_an_output_that_never_varies_is_flagged():
    def constant(inputs):
        return (torch.ones(inputs[0].shape[0], 2),)

    verdict = verify(constant, constant, SAMPLES, exact=True)
    assert any("'output 0' of the original does not vary" in warning for warning in verdict.warnings)


def test_values_that_the_original_has_not_are_no_fault():
    def overflows(inputs):
        score, gate = ORIGINAL(inputs)
        return torch.where(score > score.median(), math.inf, score), gate

    verdict = verify(overflows, ORIGINAL, SAMPLES, Contract.parse("error <= 0"), exact=False)
    assert verdict.passed, str(verdict)
    assert any(row.difference.gained for row in verdict.rows)


def test_a_drawn_sample_that_the_original_refuses_is_skipped_by_name():
    def at_most_eight(inputs):
        if len(inputs[0]) > 8:
            raise ValueError("too long")
        return ORIGINAL(inputs)

    verdict = verify(at_most_eight, ORIGINAL, SAMPLES, exact=False)
    assert verdict.skipped == (("batch=16", "too long"),)
    assert verdict.passed


def test_a_given_sample_that_the_original_refuses_is_the_users_mistake():
    def never(inputs):
        raise ValueError("bad token")

    with pytest.raises(TdslError, match="fails on sample 'example': bad token"):
        verify(never, ORIGINAL, SAMPLES, exact=False)


def test_no_sample_at_all_is_refused():
    with pytest.raises(TdslError, match="no sample"):
        verify(ORIGINAL, ORIGINAL, [], exact=False)


def test_a_model_that_writes_into_its_inputs_does_not_disturb_the_other():
    class Scribbles(nn.Module):
        def forward(self, x):
            return x.mul_(0) + x.sum()

    x = torch.ones(3)
    run = module_runner(Scribbles(), (x,))
    assert verify(run, run, [Sample("example", "example", (x,))], exact=False).passed
    assert x.sum() == 3


def test_the_guilty_rewrite_is_the_one_whose_wrong_weights_break_the_contract(file):
    def broken_with(rewrites):
        result = altered(lambda score, gate: (score * (1.5 if rewrites >= 3 else 1), gate))
        return not judge(result, "error <= 1%").passed

    assert guilty(7, broken_with) == 3
    assert judge(file, "error <= 1%").passed


def test_two_sessions_can_be_timed(file, folded_file):
    found = session_latency(lambda: session(file), lambda: session(folded_file), (EXAMPLE,), budget=0.01)
    assert found.original_ms > 0 and found.result_ms > 0 and found.pairs >= 5


def test_a_module_with_other_inputs_is_the_users_mistake():
    with pytest.raises(TdslError, match="the model takes 1 tensors, 2 were given"):
        ORIGINAL((EXAMPLE, EXAMPLE))


def test_a_file_with_other_inputs_is_the_users_mistake(file):
    with pytest.raises(TdslError, match=r"the file has 1 inputs \(x\), 2 tensors were given"):
        session_runner(session(file))((EXAMPLE, EXAMPLE))
