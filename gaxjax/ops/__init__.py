"""Network operations in the forms that JAX runs fastest and that attribution rules can hook."""
