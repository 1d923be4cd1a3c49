"""What stands behind ``run.py``: host, environment, server, workflows.

Runs before any package is installed, so it imports the standard library only; ``side_by_side`` alone is started inside
the environment.
"""
