"""A rewrite that keeps one task and hurts another is flagged, and the report says by which samples (S22)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import tdsl

FIRST, SECOND = (
    torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0))).Q[k]
    for k in (slice(0, 8), slice(8, 16))
)


def inputs(basis: Tensor, count: int, seed: int) -> list[Tensor]:
    """Batches of one task: its inputs lie in a subspace of their own."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(8, 8, generator=generator) @ basis for _ in range(count)]


def compiled(folder: Path, held_out: list[Tensor], steps: str = "") -> tdsl.Result:
    """A layer of full rank, cut to what the first task needs."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 4)).eval()
    with torch.no_grad():  # the first task alone is of little rank
        model[0].weight.copy_(
            torch.randn(24, 2) @ torch.randn(2, 8) @ FIRST / 4 + torch.randn(24, 8) @ SECOND / 4
        )
    steps = steps or "once factorize.linear.whitened_linear(rank=2)"
    (folder / "p.tdsl").write_text(f"pipeline p {{\n {steps}\n check error <= 5%\n}}")
    data = inputs(FIRST, 8, 2)
    return tdsl.compile(
        model,
        (data[0],),
        pipeline="p",
        rules=folder / "p.tdsl",
        calibration=data,
        held_out=held_out,
        latency=False,
    )


def test_the_second_task_is_flagged_though_the_first_one_is_kept(tmp_path: Path) -> None:
    kept = compiled(tmp_path, inputs(FIRST, 3, 3)).report
    assert kept.correctness.passed and kept.rewrites
    errors = {group.group: group.metrics.error for group in kept.correctness.errors}
    assert errors["calibration"] < 0.05 and errors["held-out"] < 0.05
    with pytest.raises(tdsl.TdslError, match="error"):
        compiled(tmp_path, [*inputs(FIRST, 3, 3), *inputs(SECOND, 3, 4)])


def test_errors_of_calibration_held_out_and_other_samples_stand_apart(tmp_path: Path) -> None:
    """H5: what is random or large is none of the task, and is said and not judged."""
    report = compiled(tmp_path, inputs(FIRST, 3, 3)).report
    groups = {group.group: group for group in report.correctness.errors}
    assert {"calibration", "held-out", "random", "hard"} <= set(groups)
    assert [name for name, group in groups.items() if group.decides] == ["held-out"]
    assert groups["random"].metrics.error > 4 * groups["held-out"].metrics.error


def test_every_field_of_the_report_of_a_rewrite_is_filled_in(tmp_path: Path) -> None:
    report = compiled(tmp_path, inputs(FIRST, 3, 3)).report
    assert report.rewrites
    for record in report.rewrites:
        assert all(value is not None for value in dataclasses.asdict(record).values())
        assert record.parameters > 0 and record.macs and record.error is not None
    for size in (report.original, report.result):
        assert all(dataclasses.asdict(size).values())


def test_a_pipeline_that_changes_nothing_reports_nothing(tmp_path: Path) -> None:
    report = compiled(tmp_path, inputs(SECOND, 3, 4), "repeat cleanup.identity.* until stable").report
    assert report.rewrites == () and report.original == report.result
    assert all(group.metrics.error < 1e-6 for group in report.correctness.errors)
