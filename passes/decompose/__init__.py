"""What belongs to decompositions and no rule can state: it concerns many terms at once."""
