"""Run the Wan model's parts without ComfyUI: text encoder, VAE, transformer and CLIP vision.

In: weight files by path; latents, text and geometry. Out: encoders, a diffusers transformer that a
LoRA is trained on, with geometry-guided attention (:mod:`.diffusers_processor`). Each module is
imported by its name, since each needs another optional package.
"""
