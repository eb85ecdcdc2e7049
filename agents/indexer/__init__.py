"""The indexer: makes documents searchable.

Reads documents.v1; writes indexing.v1; keeps chunks and embeddings in the vector store and versions in SQL.
Decides how a document is cut into chunks and which version of it is current. Never answers, never changes a document.
"""
