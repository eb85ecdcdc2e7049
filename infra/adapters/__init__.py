"""LoRA adapters as folders on disk: named by their content, checked before use, installed whole or not at all."""
