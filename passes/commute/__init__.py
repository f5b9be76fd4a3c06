"""Actions that move past operators, to where they end."""
