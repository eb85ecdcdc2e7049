"""Benchmarks, which compare Everlearn with its bare parts on the same input, in one run. They are not tests."""
