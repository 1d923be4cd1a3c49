"""Training of the small model that ships with the pack: clips, VAE, base, LoRA (``run.py train-demo``)."""
