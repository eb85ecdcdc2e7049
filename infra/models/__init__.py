"""Base models: found by name or path, converted, loaded, quantized and scored."""
