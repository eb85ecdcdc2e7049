"""Causal language models: found, converted, loaded, asked, measured and quantized.

``loading`` is the one place that loads them, with their tokenizers: it finds the configured base model through ``hub``
(any model, by name or path) or converts the shipped one with ``gguf``. ``chat`` turns a chat into tokens, ``scoring``
measures a loss, ``quantization`` writes a smaller model. ``threads`` holds the process's compute thread.
"""
