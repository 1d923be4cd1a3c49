"""Patch ComfyUI's Wan model: a wider input, guided attention, checks before sampling, and LoRA
metadata.

Nothing is imported here, so that a ComfyUI that lacks a name loses only what uses it.
"""
