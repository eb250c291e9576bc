"""LSTM, GRU and plain recurrent layers, by `lax.scan`."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from gaxjax.models.graph.promotion import wide
from gaxjax.models.graph.table import operation
from gaxjax.models.graph.tensor import Tensor, tensor

__all__: list[str] = []

_State = tuple[Array, ...]
_Cell = Callable[[_State, Array, Array, Array], _State]
"""From the state, the input's part, and the state's weight and bias, the next state"""


def _lstm_cell(state: _State, given: Array, weight: Array, bias: Array) -> _State:
    hidden, memory = state
    enter, forget, new, leave = jnp.split(wide(given + hidden @ weight.T + bias), 4, -1)
    memory = jax.nn.sigmoid(forget) * memory + jax.nn.sigmoid(enter) * jnp.tanh(new)
    hidden = jax.nn.sigmoid(leave) * jnp.tanh(memory)
    return hidden.astype(given.dtype), memory.astype(given.dtype)


def _gru_cell(state: _State, given: Array, weight: Array, bias: Array) -> _State:
    (hidden,) = state
    own = jnp.split(wide(hidden @ weight.T + bias), 3, -1)
    reset, update, new = jnp.split(wide(given), 3, -1)
    update = jax.nn.sigmoid(update + own[1])
    new = jnp.tanh(new + jax.nn.sigmoid(reset + own[0]) * own[2])
    return ((new + update * (hidden - new)).astype(given.dtype),)


def _plain_cell(function: Callable[[Array], Array]) -> _Cell:
    def cell(state: _State, given: Array, weight: Array, bias: Array) -> _State:
        return (function(wide(given + state[0] @ weight.T + bias)).astype(given.dtype),)

    return cell


def _layers(
    cell: _Cell,
    input: Tensor,
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """Run all layers; ``states`` are [layers · directions, B, hidden], weights as torch lists them.

    Returns:
        The last layer's hidden states at all times, and the last states of all layers.
    """
    x = input.plain()
    x = x.swapaxes(0, 1) if batch_first and x.ndim == 3 else x
    starts = [state.plain() for state in states]
    each = 4 if has_biases else 2
    last: list[_State] = []
    for _ in range(0, len(params), each * (1 + bidirectional)):
        outputs = []
        for reverse in (False, True)[: 1 + bidirectional]:
            place = len(last)
            weights = [value.plain() for value in params[each * place : each * (place + 1)]]
            by_input, by_state = weights[:2]
            zero = jnp.zeros(len(by_state), x.dtype)
            biases = weights[2:] or [zero, zero]
            given = x @ by_input.T + biases[0]

            def step(state: _State, now: Array, weight=by_state, bias=biases[1]):  # type: ignore[no-untyped-def]
                state = cell(state, now, weight, bias)
                return state, state[0]

            state, output = lax.scan(
                step, tuple(start[place] for start in starts), given, reverse=reverse
            )
            last.append(state)
            outputs.append(output)
        x = jnp.concatenate(outputs, -1)
    x = x.swapaxes(0, 1) if batch_first and x.ndim == 3 else x
    return tensor(x), *(tensor(jnp.stack(kind)) for kind in zip(*last, strict=True))


@operation("lstm")
def _lstm(
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float | int,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """Return the outputs, and the last hidden and cell states; without projections."""
    return _layers(_lstm_cell, input, hx, params, has_biases, bidirectional, batch_first)


def _with_one_state(cell: _Cell) -> Callable[..., tuple[Tensor, ...]]:
    def call(
        input: Tensor,
        hx: Tensor,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float | int,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        return _layers(cell, input, (hx,), params, has_biases, bidirectional, batch_first)

    return call


operation("gru")(_with_one_state(_gru_cell))
operation("rnn_tanh")(_with_one_state(_plain_cell(jnp.tanh)))
operation("rnn_relu")(_with_one_state(_plain_cell(jax.nn.relu)))
