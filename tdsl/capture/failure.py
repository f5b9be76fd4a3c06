"""Turns an exception from inside `torch.export` or the user's own code into one short diagnostic.

torch's tracebacks run to sixty lines; the reader needs his own line, the reason, and what to do.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path

from tdsl.capture.decided import Decisions, fixed_size
from tdsl.errors import Source, Span, TdslError
from tdsl.frames import frames_of, shown_path, user_frame

_ADVICE = (
    (
        ("tree_name", "Detected mismatch", "When `dynamic_shapes` is specified"),
        "give dynamic_shapes the structure of the inputs: one entry for each parameter of `forward`",
    ),
    (
        ("is not a known type",),
        "return tensors, or lists, tuples and dicts of them; a model of transformers returns its cache "
        "unless `use_cache` is False, in the configs of its parts as well",
    ),
    (
        ("ScriptModule", "torch.jit"),
        "give the nn.Module that it was scripted or traced from",
    ),
    (
        ("uninitialized parameter",),
        "run the model once on its example inputs, which gives lazy layers their sizes",
    ),
    (
        ("LinearPackedParams", "ConvPackedParams"),
        "give the model in float: what stores its weights in few bits is a pipeline with `quantize`",
    ),
    (
        ("inference tensor",),
        "make or load the weights outside of torch.inference_mode(), or copy the model outside of it",
    ),
    (
        ("object at pos", "PackedSequence", "_pack_padded_sequence"),
        "a size may not come from the values of a tensor, as those of packed sequences do: give a recurrent "
        "layer the padded batch, and take its outputs where the mask is 1",
    ),
    (
        ("data-dependent", "GuardOnDataDependent", "aten._local_scalar_dense", "aten.nonzero"),
        "the graph may not depend on values inside a tensor: use torch.where or torch.cond for a branch, "
        "masks instead of boolean indexing, and no .item() or float(tensor)",
    ),
    (
        ("missing a required argument", "positional argument", "too many", "unexpected keyword"),
        "give example inputs for every parameter of `forward` that has no default",
    ),
    (
        ("shapes cannot be multiplied", "size of tensor", "must match", "expected input", "Expected"),
        "check the shapes and dtypes of the example inputs; the model fails on them in PyTorch too",
    ),
)
_DEFAULT_ADVICE = "run `torch.export.export(model, args)` alone and change the model until it succeeds"


def line_span(path: str, line: int) -> Span:
    """The whole of one line of a file, for a diagnostic."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    source = Source(shown_path(path), text)
    code = source.line(line)
    start = len(code) - len(code.lstrip()) + 1
    return Span(source, line, start, line, max(start + 1, len(code.rstrip()) + 1))


def span_of_exception(error: BaseException, *, only: str | None = None) -> Span | None:
    """The innermost line of the user's (or of file `only`) on the way to `error`."""
    frames = [(f.filename, f.lineno or 0) for f in traceback.extract_tb(error.__traceback__)]
    # Export interprets a recorded graph: the user's frames then stand in the message, not the stack.
    frames += frames_of(str(error))
    if only is not None:
        frames = [frame for frame in frames if frame[0] == only]
    found = user_frame(frames)
    return line_span(*found) if found else None


def reason_of(error: BaseException) -> str:
    """What went wrong, in torch's words, in at most two lines."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [re.sub(r"\s*For more information, run with TORCH_LOGS.*", "", line) for line in lines if line]
    text = lines[0] if lines else type(error).__name__
    details = [line for line in lines[1:] if line.startswith("- ")]
    return f"{text}\n  {details[0]}" if details else text


def advice_for(error: BaseException) -> str:
    """What to do about it: torch's own suggested fix when it makes one."""
    text = str(error)
    if "Suggested fixes:" in text:
        fixes = text.partition("Suggested fixes:")[2].strip().split("\n\n")[0]
        return "torch suggests " + "; ".join(line.strip() for line in fixes.splitlines() if line.strip())
    if "Constraints violated" in text:
        return "narrow the range of this dimension (`Dim(name, min=…, max=…)`), or leave it static"
    for needles, advice in _ADVICE:
        if any(needle in f"{type(error).__name__}: {text}" for needle in needles):
            return advice
    return _DEFAULT_ADVICE


def trace_error(error: BaseException, decisions: Decisions) -> TdslError:
    """The diagnostic for a model that `torch.export` refuses, after what it decided about sizes."""
    fixed = fixed_size(error, decisions)
    if fixed is not None:
        name, size, place = fixed
        if size <= 1 and place is None:  # which torch never lets vary
            return TdslError(
                f"the model cannot be traced: the size `{name}` is {size} in the example inputs",
                expected="2 places or more along an axis whose size is to vary",
                hint="give longer example inputs; the file then takes the other sizes that the model takes",
            )
        return TdslError(
            f"the model makes a number of the size `{name}`: its graph would be right for {size} alone",
            line_span(*place) if place else None,
            expected="an operation on whole tensors, whose graph is the same for every size",
            hint="a loop over the places of an axis is unrolled, `len(tensor)`, `int(size)` and a branch on "
            f"a size decide it: change that line, or leave `{name}` out of `dynamic_shapes`",
        )
    return TdslError(
        f"the model cannot be traced: {reason_of(error)}", span_of_exception(error), hint=advice_for(error)
    )
