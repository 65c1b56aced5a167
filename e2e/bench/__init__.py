"""Benchmarks: what they measure goes to build/bench/."""
