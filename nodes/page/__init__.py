"""Serve the pack's page in the browser: previews on nodes, uploads, saved clips, and the pose
editor's routes.

Nothing is imported here, so that a ComfyUI that lacks a name loses only what uses it.
"""
