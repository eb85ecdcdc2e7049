"""The quantizer: makes smaller forms of a registered base model and says what they lose.

Reads models.v1; writes quantizations.v1; keeps quantized models in the registry.
Decides nothing but which schemes are still missing. Never serves.
"""
