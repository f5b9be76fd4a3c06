"""Weights of several layers, made of the same parts."""
