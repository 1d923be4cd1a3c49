"""Provide development tools that the product doesn't import: synthetic takes and the training of
the small model."""
