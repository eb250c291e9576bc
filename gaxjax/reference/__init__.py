"""The torch path, kept plain on purpose: the yardstick that the JAX path is held to."""
