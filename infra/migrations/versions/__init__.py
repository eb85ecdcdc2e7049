"""A file a version, named by its number."""
