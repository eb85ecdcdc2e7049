"""Milvus: collections of chunks and vectors, metadata filters, and the search over them."""
