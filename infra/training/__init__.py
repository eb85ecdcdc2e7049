"""LoRA and QLoRA training with PEFT.

``lora`` sets up, trains and saves; ``batches`` makes padded batches of rows; ``checkpoints`` finds the one to resume
from; ``datasets`` keeps the snapshots that trainings read.
"""
