"""Prepare data sets, train, generate and evaluate EgoX without ComfyUI.

Imports :mod:`egox_core` and no host; no node imports it. The rooms, each importing only rooms
further down:

    cli         arguments of `train_egox.py` and of `run.py prior`
    train       LoRA training: samples, loss, loop, checkpoints, sampling
    metrics     scores of generated videos, tables and reports
    calibrate   cameras and clocks of own recordings, and whether stated ones fit
    data        training sets: raw recordings to clips to a latent cache
    takes       files of head points and masks beside a take
    wan         text encoder, VAE and transformer by diffusers and transformers
    parallel, compute_type, options, fingerprint: the ground
    contact_sheet, video_writer, lazy_names: the ground
"""
