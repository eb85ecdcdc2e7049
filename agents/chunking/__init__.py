"""Cuts texts: finds their headings, tables and code, and divides them into pieces that an embedding model can read."""
