"""A process that compares networks: names on its input, a row of JSON for each on its output."""

import json
import os
import sys
from typing import Any

LEAST_EFFORT = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""A graph of hundreds of nodes compiles for minutes otherwise; it is run once."""


def main() -> None:
    """Answer each line of the input; whatever goes wrong with a network is its row's."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {LEAST_EFFORT}"
    answers = os.fdopen(os.dup(1), "w")  # libraries print, and compilers: not among the rows
    os.dup2(2, 1)
    import jax
    import torch

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_enable_compilation_cache", False)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0))))
    for line in sys.stdin:
        print(json.dumps(_answer(line.strip())), file=answers, flush=True)
        jax.clear_caches()


def _answer(key: str) -> dict[str, Any]:
    from benchmarks.coverage.parity import compare
    from benchmarks.coverage.zoo import zoo_model
    from gaxjax.common import one_line

    try:
        return compare(zoo_model(key))
    except Exception as error:  # whatever a library's code raises
        return {"error": f"{type(error).__name__}: {one_line(error)}"}


if __name__ == "__main__":
    main()
