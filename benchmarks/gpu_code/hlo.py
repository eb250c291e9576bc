"""Reading a compiled program: its kernels, and the bytes and operations of each.

The text is XLA's optimised HLO, in which one instruction is one kernel or library call.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}  # done in place; which operand is written
_SLICES = {"slice", "dynamic-slice", "gather"}
_NO_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while"}


class Instruction(NamedTuple):
    """One line of HLO; `rest` is what follows the operands."""

    name: str
    shape: str
    code: str
    operands: list[str]
    rest: str
    is_root: bool


Computation = dict[str, Instruction]


class Kernel(NamedTuple):
    """One kernel or library call of a program.

    Attributes:
        name, shape: of its instruction.
        kind: what it does, for people.
        moved: bytes of operands and results, once each; slices and in-place updates by what they
            touch. Caches are ignored.
        flops: of a convolution or matrix product, forward or input gradient, else 0.
        in_loop: whether it stands in a loop's body, and runs as often as that says.
        source: the innermost line of gaxjax it comes from, or "".
    """

    name: str
    shape: str
    kind: str
    moved: int
    flops: float
    in_loop: bool
    source: str

    @property
    def is_copy(self) -> bool:
        """Whether it copies, and does nothing else."""
        return self.kind == "copy"

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution, forward or input gradient."""
        return self.kind.startswith(("cudnn$conv", "convolution"))


class Loop(NamedTuple):
    """A loop; without a known number of `turns` the host waits for the device at each."""

    name: str
    turns: int | None


@dataclass(frozen=True)
class Program:
    """A compiled program, from its text."""

    text: str

    @cached_property
    def kernels(self) -> list[Kernel]:
        """In the order of the text, those of loops after their loop."""
        found = self._instructions(self._parsed[1], in_loop=False)
        return [
            Kernel(
                one.name,
                re.sub(r"\{[\d,:TSE()]*\}|/\*.*?\*/", "", one.shape),
                self._kind(one),
                self._moved(one, body),
                self._flops(one, body),
                in_loop,
                self._source(one),
            )
            for one, body, in_loop in found
            if one.code not in _NO_KERNEL
        ]

    @cached_property
    def loops(self) -> list[Loop]:
        """Every loop of the program."""
        found = []
        for one, _, _ in self._instructions(self._parsed[1], in_loop=False):
            if one.code == "while":
                turns = re.search(r'known_trip_count":\{"n":"(\d+)', one.rest)
                found.append(Loop(one.name, int(turns[1]) if turns else None))
        return found

    def _instructions(
        self, body: Computation, *, in_loop: bool
    ) -> Iterator[tuple[Instruction, Computation, bool]]:
        for one in body.values():
            yield one, body, in_loop
            if one.code == "while":
                yield from self._instructions(self._called(one, "body"), in_loop=True)
            elif one.code in ("conditional", "call"):
                for name in _branches(one):
                    yield from self._instructions(self._parsed[0][name], in_loop=in_loop)

    @cached_property
    def _parsed(self) -> tuple[dict[str, Computation], Computation]:
        bodies: dict[str, Computation] = {}
        body: Computation = {}
        entry: Computation = {}
        for line in self.text.splitlines():
            if header := re.match(r"(ENTRY )?%([\w.\-]+) \(.*\{$", line):
                body = bodies.setdefault(header[2], {})
                entry = body if header[1] else entry
            elif found := re.match(
                r"\s+(ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(, .*|$)", line
            ):
                operands = re.findall(r"%([\w.\-]+)", found[5])
                body[found[2]] = Instruction(
                    found[2], found[3], found[4], operands, found[6], bool(found[1])
                )
        return bodies, entry

    def _called(self, one: Instruction, how: str = "calls") -> Computation:
        name = re.search(how + r"=%([\w.\-]+)", one.rest)
        return self._parsed[0][name[1]] if name else {}

    def _moved(self, one: Instruction, body: Computation) -> int:
        inner = self._called(one)
        if not inner:
            read = sum(nbytes(body[name].shape) for name in set(one.operands))
            return read + nbytes(one.shape)

        def uses(name: str) -> list[tuple[Instruction, int]]:
            found = []
            for user in (user for user in inner.values() if name in user.operands):
                is_view = user.code == "bitcast" and not user.is_root
                found += uses(user.name) if is_view else [(user, user.operands.index(name))]
            return found

        moved = 0
        for argument in (other for other in inner.values() if other.code == "parameter"):
            users, whole = uses(argument.name), nbytes(argument.shape)
            if all(user.code in _SLICES for user, _ in users):
                moved += min(whole, sum(nbytes(user.shape) for user, _ in users))
            elif not all(user.code in _UPDATES and place == 0 for user, place in users):
                moved += whole
        root = next(other for other in inner.values() if other.is_root)
        results = [inner[name] for name in root.operands] if root.code == "tuple" else [root]
        for result in results:
            while result.code == "bitcast":
                result = inner[result.operands[0]]
            update = _UPDATES.get(result.code)
            moved += nbytes(
                result.shape if update is None else inner[result.operands[update]].shape
            )
        return moved

    def _flops(self, one: Instruction, body: Computation) -> float:
        inner = self._called(one)
        found = [other for other in inner.values() if other.code in ("convolution", "dot")]
        one, body = (found[0], inner) if found else (one, body)
        if contracted := re.search(
            r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]+)[\]}]', one.rest
        ):  # a matrix product, of XLA's own or of cuBLAS
            sizes = _sizes(body[one.operands[0]].shape)
            axes = [int(axis) for axis in contracted[1].replace('"', "").split(",")]
            return 2.0 * prod(_sizes(one.shape)) * prod(sizes[axis] for axis in axes)
        labels = re.search(r"dim_labels=(\w+)_\w+->(\w+)", one.rest)
        if not labels:
            return 0.0
        backward = "BackwardInput" in one.rest or "convolution_kind=dgrad" in one.rest
        outputs = _sizes(body[one.operands[0]].shape if backward else one.shape)  # of the layer
        channels = outputs[labels[1 if backward else 2].index("f")]
        return 2.0 * prod(outputs) * prod(_sizes(body[one.operands[1]].shape)) / channels

    def _kind(self, one: Instruction) -> str:
        if target := re.search(r'custom_call_target="_*([^"]+)"', one.rest):
            name = target[1]
            mode = re.search(r'"activation_mode":"k(\w+)"', one.rest) if "Bias" in name else None
            side = ", side input" if '"side_input_scale":1' in one.rest else ""
            return name + (f", activation {mode[1].lower()}{side}" if mode else "")
        codes = {other.code for other in self._called(one).values()} - {"parameter", "bitcast"}
        if "convolution" in codes:
            return "convolution fusion: " + ", ".join(sorted(codes - {"convolution"}))
        if backend := re.search(r'"kind":"([^"]+)"', one.rest):
            return backend[1].strip("_")
        if one.code != "fusion" or len(codes) == 1:
            return codes.pop() if one.code == "fusion" else one.code
        return "fusion with reduction" if "reduce" in codes else "elementwise fusion"

    def _source(self, one: Instruction) -> str:
        frame = re.search(r"stack_frame_id=(\d+)", one.rest)
        number = frame[1] if frame else ""
        while number in self._frames:
            path, line, parent = self._frames[number]
            if "gaxjax/" in path:
                return f"{path.rpartition('gaxjax/')[2]}:{line}"
            number = parent if parent != number else ""
        return ""

    @cached_property
    def _frames(self) -> dict[str, tuple[str, str, str]]:
        """Stack frames: file, line and parent frame, by number."""
        files = re.search(r"^FileNames\n((?:\d+ .*\n)+)", self.text, re.MULTILINE)
        names = dict(re.findall(r'^(\d+) "(.*)"$', files[1], re.MULTILINE)) if files else {}
        places = {
            number: (names.get(file, ""), line)
            for number, file, line in re.findall(
                r"^(\d+) \{file_name_id=(\d+).*? line=(\d+)", self.text, re.MULTILINE
            )
        }
        frames = re.findall(
            r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?", self.text, re.MULTILINE
        )
        return {number: (*places.get(at, ("", "")), parent) for number, at, parent in frames}


def _branches(one: Instruction) -> list[str]:
    found = re.search(r"(?:branch_computations=\{|to_apply=)([^}]*)", one.rest)
    named = re.findall(r"(?:true|false)_computation=%([\w.\-]+)", one.rest)
    return named or (re.findall(r"%([\w.\-]+)", found[1]) if found else [])


def _sizes(shape: str) -> list[int]:
    found = re.search(r"\[([\d,]*)\]", shape)
    return [int(size) for size in found[1].split(",") if size] if found else []


def nbytes(shape: str) -> int:
    """Return the bytes of an HLO shape, of a tuple's parts together.

    Example:
        >>> nbytes("(bf16[2,3]{1,0}, pred[4])")
        16
    """
    kinds = re.findall(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]", shape)
    return sum(prod(_sizes(f"[{sizes}]")) * int(bits or 8) // 8 for _, bits, sizes in kinds)
