"""Rules together: loops on the graph of rules, and critical pairs whose results depend on the order."""
