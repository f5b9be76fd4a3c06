"""The peers' side, run by an interpreter that has them: one method on one saved task.

    python -m benchmarks.peers METHOD TASK FOLDER

FOLDER/TASK.pt holds the model and its data; FOLDER/TASK.METHOD.pt receives the outputs on the held-out
inputs, FOLDER/TASK.METHOD.onnx the model, standard output one line of JSON.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn


def auto_fact() -> Callable[..., nn.Module]:
    """Greenformer's function.

    Two of its imports serve other solvers and models alone (matrix_fact: non-negative ones; transformers:
    GPT-2's layer) and need versions of their packages that no present Python has. Where they are missing, its
    own file is run with an empty module in their place.
    """
    for name, content in (
        ("matrix_fact", {}),
        ("transformers", {}),
        ("transformers.modeling_utils", {"Conv1D": type("Conv1D", (nn.Module,), {})}),
    ):
        if "." in name or importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
            vars(sys.modules[name]).update(content)
    from greenformer import auto_fact as found

    return found


def greenformer(task: dict[str, Any]) -> nn.Module:
    """One ratio for every layer, bisected to the number of weights of the task."""
    factorize, model = auto_fact(), task["model"]
    wanted = task["parameters"] - (1 - task["ratio"]) * task["weights"]
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if _size_at(model, task, middle) <= wanted else (low, middle)
    torch.manual_seed(0)
    layers = [model.get_submodule(name) for name in task["treated"]]
    return factorize(model, low, solver="svd", submodules=layers, deepcopy=True)


def _size_at(model: nn.Module, task: dict[str, Any], ratio: float) -> int:
    """The parameters that Greenformer's published rule for ranks comes to."""
    total = task["parameters"]
    for name in task["treated"]:
        layer = model.get_submodule(name)
        if isinstance(layer, nn.Linear):
            n, m = layer.in_features, layer.out_features
            inner = n
        else:
            n, m = layer.in_channels, layer.out_channels
            inner = n * layer.kernel_size[0] * layer.kernel_size[1]
        rank = int(int(n * m / (n + m)) * ratio)
        if 0 < rank < int(n * m / (n + m)):
            total += rank * (inner + m) - layer.weight.numel()
    return total


def tensorly(form: str) -> Callable[[dict[str, Any]], nn.Module]:
    """tensorly-torch's factorized layers of one form, at the ratio of the task."""

    def method(task: dict[str, Any]) -> nn.Module:
        import tltorch

        torch.manual_seed(0)
        model = copy.deepcopy(task["model"])
        for name in task["treated"]:
            layer = model.get_submodule(name)
            options = {"rank": task["ratio"], "factorization": form, "implementation": "factorized"}
            if isinstance(layer, nn.Linear):
                made = tltorch.FactorizedLinear.from_linear(layer, **options)
            else:
                made = tltorch.FactorizedConv.from_conv(layer, **options)
            model.set_submodule(name, made)
        return model

    return method


METHODS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "greenformer": greenformer,
    **{f"tensorly-{form}": tensorly(form) for form in ("blocktt", "tucker", "cp", "tt")},
}


def main() -> None:
    """Run one method and say how it went."""
    method, name, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    task = torch.load(folder / f"{name}.pt", weights_only=False)
    start = time.perf_counter()
    with torch.no_grad():
        model = METHODS[method](task).eval()
        seconds = time.perf_counter() - start
        torch.save(model(task["held_out"]), folder / f"{name}.{method}.pt")
    size = sum(p.numel() for p in model.parameters())
    answer: dict[str, Any] = {"seconds": seconds, "parameters": size}
    print(json.dumps(answer), flush=True)
    path = folder / f"{name}.{method}.onnx"
    with contextlib.redirect_stdout(sys.stderr):
        torch.onnx.export(model, (task["example"],), path, dynamo=True, verbose=False)


if __name__ == "__main__":
    main()
