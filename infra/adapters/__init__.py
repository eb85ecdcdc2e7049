"""LoRA adapters as folders on disk: named by their content, checked before use, installed whole or not at all.

``files`` defines the folder, its id and its installation; ``integrity`` checks an adapter against a task and a base
model; ``store`` finds adapters by id.
"""
