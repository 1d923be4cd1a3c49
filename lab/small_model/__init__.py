"""Training of the small model that ships with the pack: clips, base, LoRA (``run.py
train-demo``)."""
