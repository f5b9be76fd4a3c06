"""Original against emitted file: samples, rounding bounds, contracts, bisection, latency.

samples = draw_samples(inputs, held_out=held_out)
verdict = verify(module_runner(model, args), session_runner(session), samples, contract, exact=False)
if not verdict.passed: ...
"""

from tdsl.verify.ahead import Ahead
from tdsl.verify.bisect import guilty
from tdsl.verify.captured import double_of, inputs_of, original_runner
from tdsl.verify.compare import Difference, Metrics, compare
from tdsl.verify.contract import METRICS, Bound, Contract, Violation, describe
from tdsl.verify.innocent import innocent
from tdsl.verify.latency import Latency, in_turn, session_latency
from tdsl.verify.runner import Runner, Session, Tensors, module_runner, session_runner
from tdsl.verify.samples import Input, Sample, draw_samples, fitting_sizes
from tdsl.verify.task import Task, TaskMetric, measured_tasks
from tdsl.verify.tolerance import Double, NotInDouble, double_runs, in_double, steps_of, stored_precision
from tdsl.verify.verdict import CAPTURE, Rounding, Row, Verdict, verify

__all__ = [
    "CAPTURE",
    "METRICS",
    "Ahead",
    "Bound",
    "Contract",
    "Difference",
    "Double",
    "Input",
    "Latency",
    "Metrics",
    "NotInDouble",
    "Rounding",
    "Row",
    "Runner",
    "Sample",
    "Session",
    "Task",
    "TaskMetric",
    "Tensors",
    "Verdict",
    "Violation",
    "compare",
    "describe",
    "double_of",
    "double_runs",
    "draw_samples",
    "fitting_sizes",
    "guilty",
    "in_double",
    "in_turn",
    "innocent",
    "inputs_of",
    "measured_tasks",
    "module_runner",
    "original_runner",
    "session_latency",
    "session_runner",
    "steps_of",
    "stored_precision",
    "verify",
]
