"""What XLA makes of the engines for a GPU: how it is read, and, slowly, that it stays good."""

import importlib.metadata
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks.gpu_code.hlo import Program
from benchmarks.gpu_code.look import GpuCode, roofline
from benchmarks.gpu_code.targets import TARGETS
from benchmarks.show.table import TABLES

HAS_PLUGIN = "jax-cuda13-pjrt" in {one.name for one in importlib.metadata.distributions()}

CALL = (
    "custom-call(%a, %k, %b), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, "
    'custom_call_target="__cudnn$convBiasActivationForward", stack_frame_id=1, backend_config='
    '{"cudnn_conv_backend_config":{"activation_mode":"kRelu","side_input_scale":0}}'
)

CONVOLUTION = """HloModule jit_mapped, is_scheduled=true

FileNames
1 "/anywhere/gaxjax/ops/operations.py"

FunctionNames
1 "relu"

FileLocations
1 {file_name_id=1 function_name_id=1 line=48 end_line=48 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%p), index=1
  ROOT %copy.1 = f32[8]{0} copy(%x)
}

ENTRY %main (a: bf16[2,8,8,16], k: bf16[3,3,16,32], b: f32[32]) -> bf16[2,8,8,32] {
  %a = bf16[2,8,8,16]{3,2,1,0} parameter(0)
  %k = bf16[3,3,16,32]{2,1,0,3} parameter(1)
  %b = f32[32]{0} parameter(2)
  %w = (s32[], f32[8]{0}) while(%t), condition=%c, body=%body
  %conv = (bf16[2,8,8,32]{3,2,1,0}, u8[0]{0}) CALL
  ROOT %out = bf16[2,8,8,32]{3,2,1,0} get-tuple-element(%conv), index=0
}
""".replace("CALL", CALL)


def test_a_convolution_is_read_with_its_activation_bytes_operations_and_source():
    program = Program(CONVOLUTION)
    kernel = next(kernel for kernel in program.kernels if kernel.is_convolution)
    assert kernel.kind == "cudnn$convBiasActivationForward, activation relu"
    assert kernel.flops == 2 * (2 * 8 * 8 * 32) * (3 * 3 * 16)
    image, weights, bias, result = 2 * 8 * 8 * 16 * 2, 9 * 16 * 32 * 2, 32 * 4, 2 * 8 * 8 * 32 * 2
    assert kernel.moved == image + weights + bias + result
    assert kernel.source == "ops/operations.py:48"


PRODUCT = """HloModule jit_mapped, is_scheduled=true

%fused (x: bf16[4,8,16], y: bf16[4,32,16]) -> bf16[4,8,32] {
  %x = bf16[4,8,16]{2,1,0} parameter(0)
  %y = bf16[4,32,16]{2,1,0} parameter(1)
  ROOT %dot.1 = bf16[4,8,32]{2,1,0} dot(%x, %y), lhs_batch_dims={0}, lhs_contracting_dims={2}, rhs_batch_dims={0}, rhs_contracting_dims={2}
}

ENTRY %main (a: bf16[8,16], b: bf16[16,32], x: bf16[4,8,16], y: bf16[4,32,16]) -> bf16[8,32] {
  %a = bf16[8,16]{1,0} parameter(0)
  %b = bf16[16,32]{1,0} parameter(1)
  %x.1 = bf16[4,8,16]{2,1,0} parameter(2)
  %y.1 = bf16[4,32,16]{2,1,0} parameter(3)
  %gemm = bf16[4,8,32]{2,1,0} fusion(%x.1, %y.1), kind=kCustom, calls=%fused
  %call = (bf16[8,32]{1,0}, s8[64]{0}) custom-call(%a, %b), custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  ROOT %out = bf16[8,32]{1,0} get-tuple-element(%call), index=0
}
"""  # noqa: E501


def test_matrix_products_of_cublas_and_of_xlas_own_count_as_work():
    found = {kernel.name: kernel.flops for kernel in Program(PRODUCT).kernels}
    assert found == {"gemm": 2 * (4 * 8 * 32) * 16, "call": 2 * (8 * 32) * 16}


def test_a_loop_whose_length_only_the_device_knows_is_found():
    program = Program(CONVOLUTION)
    assert [loop.turns for loop in program.loops] == [None]
    assert [k.name for k in program.kernels if k.in_loop] == ["copy.1"]


def test_a_slice_and_an_update_in_place_move_what_they_touch():
    def update(big, row, at):
        return jax.lax.dynamic_update_slice(big, 2 * row, (at, 0))

    compiled = jax.jit(update, donate_argnums=0).lower(jnp.zeros((1000, 64)), jnp.zeros((1, 64)), 3)
    kernels = Program(compiled.compile().as_text()).kernels
    assert sum(kernel.moved for kernel in kernels) < 2000  # all of it is 256,000 bytes


def test_a_roofline_takes_the_longer_of_bytes_and_operations():
    kernels = Program(CONVOLUTION).kernels
    target = TARGETS["h100"]
    assert roofline(kernels, target, "bfloat16") == pytest.approx(
        sum(kernel.moved for kernel in kernels) / target.bandwidth
    )


def test_the_table_shows_the_newest_row_of_each_program():
    row = {
        **{"workload": "gpu_code", "target": "h100", "model": "resnet34", "size": 256},
        **{"executable": "step", "precision": "bfloat16", "slots": 256, "images": 256},
        **{"kernels": 197, "gigabytes": 26.5, "milliseconds_at_60_percent": 13.4},
        **{"images_per_s_at_60_percent": 19100.0, "forward_convolutions": 36},
        **{
            "teraflop": 4.95,
            "with_side_input": 0,
            "with_activation": 0,
            "loops_that_wait": 2,
            "large_copies": 0,
            "transposes": 35,
        },
        **{"temporary_mib_per_slot": 11.7, "argument_mib_per_slot": 7.3, "commit": "abc"},
    }
    table = TABLES["gpu_code"]([row, row | {"kernels": 129, "commit": "def"}])
    assert "197" not in table
    assert "129" in table
    assert "def" in table


@pytest.mark.slow
@pytest.mark.skipif(not HAS_PLUGIN, reason="needs gaxjax[gpu-code]")
def test_the_step_for_an_h100_keeps_its_fusions(tmp_path):
    """Bounds just above what it is: 129 kernels, 22.41 GB, 33 ReLUs of which one is the stem's."""
    output = tmp_path / "rows.jsonl"
    command = [sys.executable, "-m", "benchmarks", "gpu-code", "--output", str(output)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    row = json.loads(output.read_text())
    assert row["model"] == GpuCode().model == "resnet34"
    assert row["kernels"] <= 135
    assert row["gigabytes"] <= 22.5
    assert row["forward_convolutions"] == 36
    assert row["with_activation"] == 32  # the stem's comes after its pool; shortcuts have none
    assert row["with_side_input"] == 16
    assert row["loops_that_wait"] == 0
    assert row["large_copies"] == 0
    assert row["transposes"] == 0
    assert row["images_per_s_at_60_percent"] >= 21_000
    assert row["temporary_mib_per_slot"] + row["argument_mib_per_slot"] <= 16.5
