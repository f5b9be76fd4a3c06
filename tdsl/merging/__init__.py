"""Merging: several models of one architecture become one, each weight where all of them lose least."""

from tdsl.merging.merger import METHODS, Method, merge
from tdsl.merging.merged import Merged, MergedWeight, TaskErrors

__all__ = ["METHODS", "Merged", "MergedWeight", "Method", "TaskErrors", "merge"]
