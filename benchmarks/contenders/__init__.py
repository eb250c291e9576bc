"""Who takes part: one file for each way of doing the work, and who does what.

Modules are imported only where they are needed: a JAX contestant never loads torch.
"""

from benchmarks.measure.measurement import Contestant, Measurement
from benchmarks.measure.problem import Problem


def make_contestant(measurement: Measurement, problem: Problem) -> Contestant:
    """Make the contestant of a measurement; see `Contestant` for what that may touch.

    Raises:
        ValueError: no such contender at this workload.
    """
    workload, contender = measurement.workload, measurement.contender
    if workload == "device_check":
        from benchmarks.contenders.device_check import DeviceCheck

        return DeviceCheck(measurement, problem)
    if workload in ("fixed_steps", "to_target"):
        if contender.startswith("released"):
            from benchmarks.contenders.released import Released

            return Released(measurement, problem)
        if contender.startswith("torch"):
            from benchmarks.contenders.torch_batched import TorchBatched

            return TorchBatched(measurement, problem)
        if contender == "bare":
            from benchmarks.contenders.bare_step import BareStep

            return BareStep(measurement, problem)
    if workload in ("fixed_steps", "to_target", "slots", "images", "devices"):
        from benchmarks.contenders.engine import EngineRun

        return EngineRun(measurement, problem)
    if workload == "attribution":
        from benchmarks.contenders.attribution import Attribution

        return Attribution(measurement, problem)
    if workload == "end_to_end":
        from benchmarks.contenders.whole_run import WholeRun

        return WholeRun(measurement, problem)
    if workload == "first_result":
        from benchmarks.contenders.first_result import FirstResult

        return FirstResult(measurement, problem)
    if workload == "permutation":
        from benchmarks.contenders.permutation import Permutation

        return Permutation(measurement, problem)
    if workload == "profile":
        from benchmarks.contenders.profile import Profile

        return Profile(measurement, problem)
    raise ValueError(f"no contender {contender} at {workload}")
