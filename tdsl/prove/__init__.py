"""Proofs and counterexamples for rules: evaluation over a prime field, and a second opinion in float64."""
