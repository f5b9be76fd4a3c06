"""Cleanup that a rule cannot state: it concerns values, or the graph as a whole."""
