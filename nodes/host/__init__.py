"""Wrap the parts of ComfyUI that the nodes need, one per file.

Nothing is imported here, so that a ComfyUI that lacks a name loses only what uses it.
"""
