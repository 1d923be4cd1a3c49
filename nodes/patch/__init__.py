"""Patch ComfyUI's Wan model for the exo half and guided attention.

Nothing is imported here, so that a ComfyUI that lacks a name loses only what uses it.
"""
