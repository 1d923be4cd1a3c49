"""Patch of the host's Wan model: the wider input, the guided attention, checks before sampling,
LoRA metadata.

Nothing is imported here: a host that lacks a name loses only what uses it.
"""
