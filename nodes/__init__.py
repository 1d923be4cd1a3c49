"""The EgoX nodes: thin translations from host types to ``egox_core`` and back.

``extension`` is what the host asks for. Nothing is imported here, so that ``host.names`` can look at the host first.
"""
