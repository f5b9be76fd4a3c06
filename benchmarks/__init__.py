"""Benchmarks: `make bench` runs every part, `make bench ONLY=factorize` one."""
