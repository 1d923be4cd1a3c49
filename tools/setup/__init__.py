"""Set up Python, ComfyUI and its server for ``run.py``.

``layout``, ``host``, ``environment`` and, at import, ``commands`` need the standard library only,
since nothing is installed yet; everything else runs inside the environment."""
