"""What the pack's page in the browser is served: previews on nodes, and scenes, data and routes of the pose editor.

Nothing is imported here: a host that lacks a name loses only what uses it.
"""
