"""Weights in few bits: the schemes of `quantize`, how each chooses codes and how files put them together."""
