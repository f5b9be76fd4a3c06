"""Factorizations of weights as plain functions on tensors, each with its promise, rank rule and error."""
