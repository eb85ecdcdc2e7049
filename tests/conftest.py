"""Fixtures of the whole suite; each technology's stand in ``tests/fixtures``."""

pytest_plugins = ["tests.fixtures.kafka", "tests.fixtures.milvus", "tests.fixtures.models", "tests.fixtures.sql"]
