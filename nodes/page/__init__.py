"""Serve the pack's browser page: uploads, saved clips, and the pose editor's requests.

Nothing is imported here, so that a ComfyUI that lacks a name loses only what uses it.
"""
