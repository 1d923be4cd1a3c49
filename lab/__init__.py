"""The workshop: drawn takes and the small model's training. It imports the product, never the
reverse."""
