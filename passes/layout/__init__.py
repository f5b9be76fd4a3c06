"""The same values in an order that costs less."""
