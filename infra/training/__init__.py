"""LoRA and QLoRA training with PEFT, its checkpoints, and the dataset snapshots it reads."""
