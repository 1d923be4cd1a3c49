"""Write the texts that follow from the nodes' schemas: the English locale (``run.py make texts``)."""
