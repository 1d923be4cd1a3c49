"""Rigs for tests, benches and makers: a page in a browser, the host and the pack in this process, tiny models.

In goes a host (``tools.setup``) or a folder of weights; out come a :class:`~.comfy_page.ComfyPage`, an imported pack,
a :class:`~.model_rig.Rig`, or stand-in weights in the form of the real files.
"""
