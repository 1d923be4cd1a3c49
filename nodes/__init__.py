"""Translate between ComfyUI's types and ``egox_core`` in the EgoX nodes.

ComfyUI reads ``extension``. Nothing is imported here, so that ``host.names`` can check ComfyUI
first. ¶ -

``extension`` is what the host asks for. Nothing is imported here, so that ``host.names`` can look at the host first.
"""
