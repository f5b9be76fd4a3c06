"""Symmetry: groups, actions, bases, certificates."""
