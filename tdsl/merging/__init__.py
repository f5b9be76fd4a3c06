"""Merging: several models of one architecture become one, each weight where all of them lose least."""

from tdsl.merging.merged import Merged, MergedWeight, TaskErrors
from tdsl.merging.merger import METHODS, Method, merge

__all__ = ["METHODS", "Merged", "MergedWeight", "Method", "TaskErrors", "merge"]
