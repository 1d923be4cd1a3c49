"""Training of the EgoX LoRA on cached latents; needs the packages of the ``train`` extra."""
