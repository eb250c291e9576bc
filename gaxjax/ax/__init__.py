"""The existing attribution methods (AX) natively in JAX, batched and scored."""
