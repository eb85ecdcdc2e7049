"""Embedding models, and the cross-encoder that reranks.

``embedder`` finds the model and chooses what runs it: ``openvino`` (exported once by ``openvino_export``) or ``torch``,
which holds the one loader of sentence-transformers models. ``reranker`` orders search hits.
"""
