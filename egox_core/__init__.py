"""EgoX core: geometry, ego prior, conditioning canvas, geometry-guided attention. Plain torch and numpy, no host."""
