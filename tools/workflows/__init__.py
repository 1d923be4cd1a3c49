"""The workflows that ship, written from one description of each graph (``run.py make workflows``)."""
