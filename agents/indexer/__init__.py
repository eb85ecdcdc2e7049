"""The indexer: makes documents searchable.

Reads documents.v1 and requests.v1; writes indexing.v1; keeps chunks and embeddings in the vector store, and versions
in SQL. Decides how a document is split into chunks, which version of it is current, and which indexes there are.
Never answers a question, never changes a document.
"""

from typing import Final

AGENT: Final = "indexer"
