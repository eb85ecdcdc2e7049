"""Inference engines: ``transformers`` runs the base model and its adapters wherever torch does.

``lora_files`` reads an adapter as data, ``lora_slots`` keeps adapters side by side in one model, and ``prefixes``
caches what prompts have in common.
"""
