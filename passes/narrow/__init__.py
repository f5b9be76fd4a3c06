"""Models of fewer hidden units: a width changed in all weights that it stands in."""
