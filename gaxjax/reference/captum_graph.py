"""A torch classifier traced and written anew, with one module per call: graph surgery alone.

`separate_nonlinearities` is the way in; here is how. What is traced is a twin of the model with
the same weights but without its hooks, so that nothing is ever set on the model itself.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
import torch
import torch.nn.functional as F
import torchvision
from torch import fx, nn

from gaxjax.common import UserError

__all__ = ["NONLINEARITIES", "at_rest", "rebuild"]

_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

_FUNCTIONAL: dict[type[nn.Module], tuple[str, tuple[str, ...]]] = {
    nn.ReLU: ("relu", ()),
    nn.ELU: ("elu", ("alpha",)),
    nn.LeakyReLU: ("leaky_relu", ("negative_slope",)),
    nn.Sigmoid: ("sigmoid", ()),
    nn.Tanh: ("tanh", ()),
    nn.Softplus: ("softplus", ("beta", "threshold")),
    nn.MaxPool1d: ("max_pool1d", _POOL),
    nn.MaxPool2d: ("max_pool2d", _POOL),
    nn.MaxPool3d: ("max_pool3d", _POOL),
}
"""The functional form of each type, and that form's arguments after the input, in order."""

# Softmax has no entry above: the functional softmax of an attention block stays a function, since
# Captum's rule for it mixes the images of a batch (it subtracts the mean over all of them).
NONLINEARITIES: tuple[type[nn.Module], ...] = (*_FUNCTIONAL, nn.Softmax)
"""The types that Captum's DeepLift hooks, and no subclass; its ReLU rules hook the first."""

_FORMS: dict[Any, type[nn.Module]] = {
    getattr(home, form) if home else form: kind
    for kind, (name, _) in _FUNCTIONAL.items()
    for form in (name, f"{name}_")
    for home in (torch, F, None)
    if hasattr(home or torch.Tensor, form)
}
"""`F.relu`, `torch.relu_`, the method name ``"relu"``, … → `nn.ReLU`, and so on."""

# Single modules of torch.nn whose nonlinearities no hook can reach.
_OPAQUE = (
    nn.RNNBase,
    nn.RNNCellBase,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)


def rebuild(model: nn.Module) -> fx.GraphModule:
    """Write the model anew in eval mode: one module per call, nothing in place.

    Args:
        model: any module of one input that `torch.fx` can trace.

    Returns:
        The network. Its ``meta["layers"]`` maps each name of the model's modules to the modules
        of the network, one per call, that end in the same tensor; ``meta["first_convolution"]``
        is one of these, or None.

    Raises:
        UserError: `torch.fx` cannot trace the model, or no hook can reach a nonlinearity in it.
    """
    tracer = _Tracer()
    try:
        with at_rest(model), _shapes_unchecked():
            root = _OneInput(_twin(model, {}))
            graph = tracer.trace(root)
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        raise UserError(
            f"torch.fx cannot trace {type(model).__name__} ({type(error).__name__}: "
            f"{' '.join(str(error).split())}); in `forward`, decide nothing by a tensor's values "
            "or shape, or hide the function that does behind torch.fx.wrap"
        ) from error
    rebuilding = _Rebuilding(root, graph)
    for node in graph.nodes:
        rebuilding.add(node)
        for name, returned in tracer.returned[node]:
            rebuilding.returns(name, returned)
    return rebuilding.finished(type(model).__name__, tracer.convolutions)


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Keep the model in eval mode inside; afterwards each of its modules is in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        model.train(modes[0][1])  # a `train` of the model's own may do more than set flags
        for module, mode in modes:
            module.training = mode


@contextmanager
def _shapes_unchecked() -> Iterator[None]:
    """Let tracing pass through functions whose shapes jaxtyping checks: it has no tensors."""
    disabled = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", disabled)


class _OneInput(nn.Module):
    """Call the model with images alone, so that Python, not fx, fills in its other arguments."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        return self.model(images)


def _twin(module: nn.Module, twins: dict[int, nn.Module]) -> nn.Module:
    """Copy the tree of modules, without their hooks; parameters and buffers are the same tensors.

    Args:
        module: its root.
        twins: those made so far, by the identity of the original: a shared module stays shared.
    """
    if id(module) not in twins:
        # Not copy.copy: a GraphModule copies itself in its own way.
        twin = twins[id(module)] = object.__new__(type(module))
        no_hooks = {key: value for key, value in vars(nn.Module()).items() if "hook" in key}
        vars(twin).update(vars(module) | no_hooks)
        twin._parameters = dict(module._parameters)
        twin._buffers = dict(module._buffers)
        twin._modules = {
            name: child if child is None else _twin(child, twins)
            for name, child in module._modules.items()
        }
    return twins[id(module)]


class _Tracer(fx.Tracer):
    """Trace as torchvision's feature extraction does, and remember where each module returned."""

    def __init__(self) -> None:
        wrapped: Any = (math, torchvision.ops)  # torch's own annotation allows one module only
        super().__init__(autowrap_modules=wrapped)
        self.returned: dict[fx.Node, list[tuple[str, fx.Node]]] = defaultdict(list)
        self.convolutions: list[str] = []

    def path_of_module(self, mod: nn.Module) -> str:
        """Return the module's name in the model, not in the `_OneInput` around it."""
        return _own_name(super().path_of_module(mod))

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Note, at the last node so far, which tensor a container returned."""
        out = super().call_module(m, forward, args, kwargs)
        name = self.path_of_module(m)
        if isinstance(out, fx.Proxy) and not self.is_leaf_module(m, name):
            self.returned[next(iter(reversed(self.graph.nodes)))].append((name, out.node))
        if isinstance(m, nn.Conv2d):
            self.convolutions.append(name)
        return out


def _own_name(name: str) -> str:
    return "" if name == "model" else name.removeprefix("model.")


class _Rebuilding:
    """The network while it grows, node by node in the order of execution."""

    def __init__(self, root: nn.Module, graph: fx.Graph):
        self.root = root
        self.calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
        self.taken = {
            _own_name(name)
            for named in (root.named_modules(), root.named_parameters(), root.named_buffers())
            for name, _ in named
        }
        self.graph = fx.Graph()
        self.parts: dict[str, Any] = {}  # modules and tensors of the network, by name
        self.tensor: dict[fx.Node, fx.Node] = {}  # old node → the first that is the same tensor
        self.now: dict[fx.Node, fx.Node] = {}  # that first one → its present value, a new node
        self.fed: set[fx.Node] = set()  # new nodes that the images reach
        self.layers: dict[str, list[str]] = defaultdict(list)
        self.ends: list[tuple[str, fx.Node]] = []  # containers and the tensors they end in

    def add(self, node: fx.Node) -> None:
        """Write one node anew; a tensor that it changes in place has a new value from now on."""
        if node.op == "call_module":
            new, in_place = self._module(node)
        elif node.op in ("call_function", "call_method"):
            new, in_place = self._function(node)
        else:
            new, in_place = self._copy(node), False
            if node.op == "get_attr":
                new.target = _own_name(str(node.target))
                self.parts[new.target] = _attribute(self.root, str(node.target))
        self.tensor[node] = self.tensor[_input(node)] if in_place else node
        self.now[self.tensor[node]] = new
        if node.op == "placeholder" or not self.fed.isdisjoint(new.all_input_nodes):
            self.fed.add(new)

    def returns(self, name: str, returned: fx.Node) -> None:
        """Note that a container has just returned this tensor, as it is now."""
        self.ends.append((name, self._value(returned)))

    def finished(self, class_name: str, convolutions: list[str]) -> fx.GraphModule:
        """Give every container a module that ends in its tensor, and compile."""
        ends: dict[fx.Node, str] = {}
        for name, value in self.ends:
            if value not in ends:
                is_module = value.op == "call_module"
                ends[value] = str(value.target) if is_module else self._tap(value, name)
            self.layers[name].append(ends[value])
        network = fx.GraphModule(self.parts, self.graph, class_name).eval()
        modules = [path for path, part in self.parts.items() if isinstance(part, nn.Module)]
        layers = {path: [path] for path in modules} | dict(self.layers)
        # A module with two names is traced under its first.
        model = self.root.get_submodule("model")
        names = {module: name for name, module in model.named_modules()}
        for name, module in model.named_modules(remove_duplicate=False):
            if names[module] in layers:
                layers.setdefault(name, layers[names[module]])
        network.meta["layers"] = layers
        network.meta["first_convolution"] = (
            self.layers[convolutions[0]][0] if convolutions else None
        )
        return network

    def _tap(self, value: fx.Node, name: str) -> str:
        """Pass a tensor through an `nn.Identity` on its way to all its users; return its name."""
        tap = self._free(f"{name}.output".removeprefix("."))
        self.parts[tap] = nn.Identity()
        with self.graph.inserting_after(value):
            tapped = self.graph.call_module(tap, (value,))
        value.replace_all_uses_with(tapped, lambda user: user is not tapped)
        return tap

    def _module(self, node: fx.Node) -> tuple[fx.Node, bool]:
        target = str(node.target)
        module = self.root.get_submodule(f"model.{target}".removesuffix("."))
        if isinstance(module, _OPAQUE) or any(
            type(part) in NONLINEARITIES for part in module.modules() if part is not module
        ):
            raise UserError(
                f"{target or 'the model'} is one module of torch ({type(module).__name__}) with "
                "nonlinearities inside, where no hook can reach them; write it in modules of your "
                "own, or unwrap it"
            )
        name = target if self.calls[target] == 1 else self._free(f"{target}_1")
        self.layers[target].append(name)
        fresh = _twin(module, {})
        in_place = getattr(module, "inplace", False) is True
        if in_place:
            vars(fresh)["inplace"] = False
        if type(module) in NONLINEARITIES:
            return self._nonlinearity(node, name, fresh), in_place
        self.parts[name] = fresh
        new = self._copy(node)
        new.target = name
        return new, in_place

    def _function(self, node: fx.Node) -> tuple[fx.Node, bool]:
        form = _torch_name(node)
        underscored = form.endswith("_") and not form.endswith("__")
        in_place = underscored or node.kwargs.get("inplace") is True
        if node.target in _FORMS:
            path = list(node.meta["nn_module_stack"].values())[-1][0]
            name = self._free(f"{path}.{form.removesuffix('_')}".removeprefix("."))
            return self._nonlinearity(node, name, self._from_function(node)), in_place
        new = self._copy(node)
        if underscored:
            new.target = _out_of_place(node, form)
        elif in_place:
            new.kwargs = {**new.kwargs, "inplace": False}
        return new, in_place

    def _nonlinearity(self, node: fx.Node, name: str, module: nn.Module) -> fx.Node:
        value = self._value(_input(node))
        if value in self.fed:
            # Captum's hook sits on the input tensor itself. There it replaces the whole gradient,
            # also what other users of that tensor send back (dropout in eval mode returns its
            # very input, so they may be out of sight), and it comes too late for a nonlinearity
            # whose output that tensor is (https://github.com/meta-pytorch/captum/issues/1104).
            value = self.graph.call_method("clone", (value,))
            self.fed.add(value)
        else:
            module = _Unhooked(module)
        self.parts[name] = module
        return self.graph.call_module(name, (value,))

    def _from_function(self, node: fx.Node) -> nn.Module:
        kind = _FORMS[node.target]
        options = dict(zip(_FUNCTIONAL[kind][1], node.args[1:], strict=False))
        options |= {key: node.kwargs[key] for key in _FUNCTIONAL[kind][1] if key in node.kwargs}
        if any(isinstance(value, fx.Node) for value in options.values()):
            raise UserError(
                f"{node.name} takes its {', '.join(options)} from the input's size, so it cannot "
                "become a module; give it numbers"
            )
        return kind(**options)

    def _copy(self, node: fx.Node) -> fx.Node:
        return self.graph.node_copy(node, self._value)

    def _value(self, node: fx.Node) -> fx.Node:
        return self.now[self.tensor[node]]

    def _free(self, name: str) -> str:
        """Return the name, or the next one (``relu_1`` → ``relu_2``) that nothing has yet."""
        stem, _, number = name.rpartition("_")
        stem, count = (stem, int(number)) if number.isdigit() else (name, 1)
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        return name


class _Unhooked(nn.Module):
    """A nonlinearity of constants, out of Captum's sight: it cannot hook what has no gradient."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.hidden = (module,)  # in a tuple it is no submodule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.hidden[0](x)


def _torch_name(node: fx.Node) -> str:
    """Return the name of torch's function or tensor method, or ``""`` for another's function."""
    if node.op == "call_method":
        return str(node.target)
    home = getattr(node.target, "__module__", None) or ""
    return getattr(node.target, "__name__", "") if home.startswith("torch") else ""


def _input(node: fx.Node) -> fx.Node:
    value = node.args[0] if node.args else node.kwargs["input"]
    assert isinstance(value, fx.Node)
    return value


def _attribute(root: nn.Module, name: str) -> Any:
    owner, _, attribute = name.rpartition(".")
    return getattr(root.get_submodule(owner), attribute)


def _out_of_place(node: fx.Node, form: str) -> Any:
    """Return what computes the same without writing into its input: ``add_`` → ``add``."""
    homes: tuple[Any, ...] = (torch.Tensor,) if node.op == "call_method" else (torch, F)
    found = next((f for h in homes if callable(f := getattr(h, form[:-1], None))), None)
    if found is None:
        raise UserError(f"{form} writes in place and has no other form; write {node.name} anew")
    return form[:-1] if node.op == "call_method" else found
