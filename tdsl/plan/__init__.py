"""Plans: statistics of calibration data, candidates with costs and errors, and the choice under budgets."""
