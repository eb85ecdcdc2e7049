"""Embedding models on OpenVINO or torch, and the cross-encoder that reranks."""
