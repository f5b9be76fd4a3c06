"""Recovery after approximate rewrites: factors solved anew on what the compressed model computes."""
