"""The report on the screen, word for word."""

import dataclasses
import math
from textwrap import dedent

from hypothesis import given, settings
from hypothesis import strategies as st

from tdsl.report import (
    Correctness,
    GroupErrors,
    Note,
    Promise,
    Report,
    RewriteRecord,
    RoundingRecord,
    Size,
    to_text,
)
from tdsl.verify import Latency, Metrics

KEPT = Correctness(
    passed=True,
    exact=False,
    judged_on="held-out",
    judged_samples=16,
    contract=(
        Promise("error <= 0.2", "error", 0.2, 0.1312, True),
        Promise("cosine >= 0.98", "cosine", 0.98, 0.991239, True),
    ),
    errors=(
        GroupErrors("held-out", 16, True, Metrics(0.1312, 0.0231, 0.991239, 0.9951)),
        GroupErrors("hard", 3, False, Metrics(math.inf, math.inf, math.nan, math.nan)),
    ),
)
REWRITES = (
    RewriteRecord(1, "cleanup.identity", "", "", None, 0, 0, 1),
    RewriteRecord(2, "factorize.svd_linear", "encoder.0.query", "bert.py:100", 0.031, 30000, 480000, -1),
    RewriteRecord(3, "factorize.svd_linear", "encoder.0.key", "bert.py:101", 0.032, 60000, 960000, -1),
)
REPORT = Report(
    model="minilm",
    pipeline="edge",
    correctness=KEPT,
    original=Size(90_912_345, 22_713_216, 364_000_000, 412),
    result=Size(44_100_345, 11_000_216, 180_000_000, 398),
    latency=Latency(12.34, 7.123, 0.577, 0.012, 0.31, 0.2, 120),
    rewrites=REWRITES,
    notes=(Note("nothing paid", "svd_linear at encoder.0.value: rank 301 of 384 costs more than the layer"),),
    environment={},
)


def expect(report, text, **options):
    assert to_text(report, **options) == dedent(text).lstrip("\n")


def test_a_report_has_the_verdict_first_and_everything_with_units():
    expect(
        REPORT,
        """
        PASSED  minilm, pipeline edge: its contract holds on 16 held-out samples

                            original    result   result/original
        ────────────────────────────────────────────────────────
        file                 90.9 MB   44.1 MB            0.485×
        parameters            22.7 M    11.0 M            0.484×
        MACs                   364 M     180 M            0.495×
        nodes                    412       398            0.966×
        latency, median      12.3 ms   7.12 ms            0.577×
          quartile spread     310 µs    200 µs           0.0120×

        contract     bound   measured
        ────────────────────────────────────
        error      <= 20 %     13.1 %   kept
        cosine     >= 0.98    0.99123   kept

        samples      count    error   max error   cosine min      mean
        ──────────────────────────────────────────────────────────────
        held-out *      16   13.1 %      0.0231      0.99123   0.99510
        hard             3        ∞           ∞            –         –
          * the contract is judged on these

        saved by rule          times   error max   parameters     MACs   nodes
        ──────────────────────────────────────────────────────────────────────
        factorize.svd_linear       2      3.20 %       90.0 k   1.44 M      -2
        cleanup.identity           1       exact            –        –       1

        in all                     3                   90.0 k   1.44 M      -1

        saved by rewrite           error   parameters    MACs   nodes
        ─────────────────────────────────────────────────────────────
        1. cleanup.identity        exact            –       –       1
          (top level)
        2. factorize.svd_linear   3.10 %       30.0 k   480 k      -1
          encoder.0.query
          bert.py:100
        3. factorize.svd_linear   3.20 %       60.0 k   960 k      -1
          encoder.0.key
          bert.py:101

        notes
          - nothing paid: svd_linear at encoder.0.value: rank 301 of 384 costs more than
            the layer
        """,
    )


def test_an_exact_pipeline_tells_its_rounding_and_absent_numbers_take_no_row():
    tidy = Report(
        "net.py:build",
        "tidy",
        Correctness(
            True,
            True,
            "example and random",
            5,
            rounding=RoundingRecord("batch=512", "logits", 3.1e-7, 4.4e-7, 2.5e-6),
        ),
        Size(1000, 0, None, 3),
        Size(800, 0, None, 2),
        environment={},
    )
    expect(
        tidy,
        """
        PASSED  net.py:build, pipeline tidy: it equals the original up to rounding

                     original   result   result/original
        ────────────────────────────────────────────────
        file          1.00 kB    800 B            0.800×
        parameters          0        0                 –
        nodes               3        2            0.667×

        rounding: at most 4.40e-07 from the original in float64, 2.50e-06 is allowed;
        the original in float32 is 3.10e-07 from it (sample 'batch=512', output
        'logits')

        rewrites: none, no rule applied
        """,
    )


def test_a_broken_contract_names_the_violation_and_the_guilty_rewrite():
    broken = dataclasses.replace(
        KEPT,
        passed=False,
        violations=("cosine is 0.91, the contract says cosine >= 0.98 (output 'y', sample 'held-out 7')",),
        guilty=2,
        contract=(Promise("cosine >= 0.98", "cosine", 0.98, 0.91, False),),
        errors=(),
    )
    report = dataclasses.replace(REPORT, correctness=broken, latency=None, rewrites=REWRITES[:2], notes=())
    expect(
        report,
        """
        FAILED  minilm, pipeline edge: no file was written
          - cosine is 0.91, the contract says cosine >= 0.98 (output 'y', sample
            'held-out 7')
          - first broken by rewrite 2: factorize.svd_linear at encoder.0.query
            (bert.py:100)

                     original    result   result/original
        ─────────────────────────────────────────────────
        file          90.9 MB   44.1 MB            0.485×
        parameters     22.7 M    11.0 M            0.484×
        MACs            364 M     180 M            0.495×
        nodes             412       398            0.966×

        contract     bound   measured
        ──────────────────────────────────────
        cosine     >= 0.98    0.91000   BROKEN

        saved by rule          times   error max   parameters    MACs   nodes
        ─────────────────────────────────────────────────────────────────────
        factorize.svd_linear       1      3.10 %       30.0 k   480 k      -1
        cleanup.identity           1       exact            –       –       1

        in all                     2                   30.0 k   480 k       –

        saved by rewrite           error   parameters    MACs   nodes
        ─────────────────────────────────────────────────────────────
        1. cleanup.identity        exact            –       –       1
          (top level)
        2. factorize.svd_linear   3.10 %       30.0 k   480 k      -1
          encoder.0.query
          bert.py:100
        """,
    )


def test_many_rewrites_are_summed_up_unless_everything_is_asked_for():
    many = tuple(
        RewriteRecord(i, "svd_linear", f"layer.{i}", "", 0.01, i * 1000, i * 2000, -1) for i in range(1, 31)
    )
    report = dataclasses.replace(REPORT, rewrites=many)
    short, full = to_text(report), to_text(report, everything=True)
    assert "25 more with --all" in short
    assert [f"layer.{i}\n" in short for i in (30, 26, 25, 1)] == [True, True, False, False]
    assert all(f"layer.{i}\n" in full for i in range(1, 31))
    assert "--all" not in full


def test_many_notes_are_counted():
    notes = tuple(Note("refused", f"reason {i}") for i in range(40))
    assert "28 more with --all" in to_text(dataclasses.replace(REPORT, notes=notes))


def test_brackets_in_names_are_text_and_no_markup():
    named = RewriteRecord(1, "rule[bold]", "blocks[0]", "a[red].py:1")
    text = to_text(dataclasses.replace(REPORT, model="net[dim]", rewrites=(named,)))
    for name in ("net[dim]", "rule[bold]", "blocks[0]", "a[red].py:1"):
        assert name in text


def test_plain_text_has_no_escape_codes():
    assert "\x1b" not in to_text(REPORT)


@settings(max_examples=20, deadline=None)
@given(
    site=st.text("abc._0123", max_size=300),
    rule=st.text("abc._", min_size=1, max_size=120),
    parameters=st.integers(-(10**12), 10**12),
    number=st.integers(1, 10**4),
)
def test_no_line_is_wider_than_the_screen_and_no_name_is_cut(site, rule, parameters, number):
    record = RewriteRecord(number, rule, site, "model.py:1", 0.5, parameters, parameters, -1)
    text = to_text(dataclasses.replace(REPORT, rewrites=(record,), notes=(Note("refused", site or "x"),)))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert all(c in text for c in set(site))
