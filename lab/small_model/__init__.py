"""Train the small model that ships with the pack: clips, base model and LoRA (``run.py
train-demo``)."""
