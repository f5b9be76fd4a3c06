"""The rule library: `.tdsl` files, and Python passes for what a rule cannot state."""
