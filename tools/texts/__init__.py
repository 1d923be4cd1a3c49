"""Write the nodes' texts to translation files."""
