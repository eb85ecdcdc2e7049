"""Benchmarks: figures of one machine in one run, beside those of the bare parts on the same input. Not tests."""
