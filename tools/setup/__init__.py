"""Hold the parts of ``run.py``: ComfyUI, environment, server, demo.

``layout``, ``host``, ``environment`` and, at import, ``commands`` need the standard library only,
since nothing is installed yet; everything else runs inside the environment."""
