"""Translate between ComfyUI's types and ``egox_core`` in the EgoX nodes.

ComfyUI reads ``extension``. Nothing is imported here, so that ``host.names`` can check ComfyUI
first.
"""
