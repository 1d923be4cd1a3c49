"""Drive a browser page and ComfyUI with tiny models, for tests and benchmarks.

In goes a host (``tools.setup``) or a folder of weights; out come a :class:`~.comfy_page.ComfyPage`,
an imported pack, a :class:`~.model_rig.ModelRig`, or stand-in weights in the form of the real
files.
"""
