"""The quantizer: makes a registered base model smaller, and tells what that costs.

Reads models.v1; writes quantizations.v1; keeps quantized models in the registry, each with its size and its loss.
Decides which schemes are wanted, and whether a quantized model is sound. Never chooses what is served.
"""
