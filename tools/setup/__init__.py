"""What stands behind ``run.py``: host, environment, server, workflows. Standard library only; nodes never import it."""
