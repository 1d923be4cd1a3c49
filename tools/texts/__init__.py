"""Texts that follow from the nodes' schemas: the English locale and the help pages' lists (``run.py make texts``)."""
