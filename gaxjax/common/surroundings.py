"""The process around us: JAX's settings, which a user, a notebook or the environment may change.

Our numbers are float32 where nothing else is said, a `not_finite` image is an outcome of ours, and
shapes are broadcast. So public functions compute under JAX's own defaults, and the caller's
settings are back when they return.
"""

import functools
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import jax

__all__ = ["foreign_settings", "own_numbers", "yielding_own_numbers"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Of JAX's settings those that change a number, or refuse what is no fault of ours.
_DEFAULTS: dict[str, tuple[Callable[..., Any], Any]] = {
    "jax_enable_x64": (jax.enable_x64, False),
    "jax_debug_nans": (jax.debug_nans, False),
    "jax_debug_infs": (jax.debug_infs, False),
    "jax_debug_key_reuse": (jax.debug_key_reuse, False),
    "jax_disable_jit": (jax.disable_jit, False),
    "jax_check_tracer_leaks": (jax.checking_leaks.func, False),  # a partial that says True
    "jax_numpy_dtype_promotion": (jax.numpy_dtype_promotion, "standard"),
    "jax_numpy_rank_promotion": (jax.numpy_rank_promotion, "allow"),
    "jax_default_matmul_precision": (jax.default_matmul_precision, None),
    "jax_default_prng_impl": (jax.default_prng_impl, "threefry2x32"),
    "jax_threefry_partitionable": (jax.threefry_partitionable, True),
    "jax_legacy_prng_key": (jax.legacy_prng_key, "allow"),
    "jax_transfer_guard": (jax.transfer_guard, "allow"),
}


def foreign_settings() -> dict[str, Any]:
    """Return the settings that are not JAX's defaults and would change or stop our work.

    Returns:
        The default of each, by JAX's name of it.

    Example:
        >>> foreign_settings()
        {}
    """
    return {name: default for name, (_, default) in _DEFAULTS.items() if _now(name) != default}


def _now(name: str) -> Any:
    """Return a setting as it is in this thread, where a context may have changed it."""
    value = getattr(jax.config, name, None)
    value = getattr(value, "value", value)  # some are members of an enumeration
    return _DEFAULTS[name][1] if value is None else value


@contextmanager
def own_numbers() -> Iterator[None]:
    """Compute under JAX's defaults, in this thread; a context manager, and a decorator.

    Example:
        >>> with jax.enable_x64(True), own_numbers():
        ...     print(jax.numpy.asarray(0.1).dtype)
        float32
    """
    with ExitStack() as settings:
        for name, default in foreign_settings().items():
            settings.enter_context(_DEFAULTS[name][0](default))
        yield


def yielding_own_numbers(
    function: Callable[_P, Generator[_T, None, None]],
) -> Callable[_P, Generator[_T, None, None]]:
    """Decorate a generator function: it computes under JAX's defaults, its reader does not."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> Generator[_T, None, None]:
        items = function(*args, **kwargs)
        try:
            while True:
                with own_numbers():
                    try:
                        item = next(items)
                    except StopIteration:
                        return
                yield item
        finally:
            with own_numbers():
                items.close()

    return wrapped
