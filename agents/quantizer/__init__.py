"""The quantizer: makes a registered base model smaller, and measures what that costs.

Reads models.v1; writes quantizations.v1; keeps quantized models in the registry, each with its size and its loss.
Decides which schemes a model gets, and whether a quantized model is sound. Never chooses what is served.
"""

from typing import Final

AGENT: Final = "quantizer"
