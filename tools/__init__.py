"""Hold tools that set up and drive ComfyUI and make shipped files.

Rooms, each importing only those before it:

- ``setup``: behind ``run.py``: makes the environment, and drives the host in it
- ``rigs``: drive host, page and tiny models, for tests and benches
- ``workflows``, ``sample``, ``texts``: makers of files that ship, by ``run.py make``

``convert_lora.py``, ``convert_to_safetensors.py`` and ``merge_lora.py`` are commands of their own.
"""
