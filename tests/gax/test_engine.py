"""The engine's contract: one outcome per image, true scores, and independence of neighbours."""

import dataclasses
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from gaxjax.common.devices import same_bits_at_any_count
from gaxjax.common.errors import UserError
from gaxjax.config.methods import GaxConfig
from gaxjax.config.runs import EngineConfig
from gaxjax.data.batching import Batch
from gaxjax.gax import lane as lanes
from gaxjax.gax import slots
from gaxjax.gax.engine import GaxEngine
from gaxjax.gax.heatmap import heatmap
from gaxjax.gax.objective import Objective
from gaxjax.gax.program import Program
from gaxjax.models.classifier import as_classifier
from gaxjax.results.solution import Outcome, Solution
from gaxjax.score import augment

PIXELS = tiny.images(40)
CLASSIFIER = tiny.classifier()
LABELS = tiny.predictions(PIXELS, CLASSIFIER)
SAME_BITS = same_bits_at_any_count(jax.devices()[0])  # as with AVX-512; with AVX2 nearly so
GAX = GaxConfig(target=100.0, max_steps=60)  # steps range from 0 to about 23


@pytest.fixture(scope="module")
def solved() -> dict[int, Solution]:
    return tiny.solve(PIXELS, LABELS, GAX)[0]


def score_in_numpy(solution: Solution, gax: GaxConfig) -> float:
    """Score a stored heatmap without the engine."""
    model, x = CLASSIFIER, jnp.asarray(PIXELS[solution.index], jnp.float32) / 255
    h = jnp.asarray(solution.heatmap, jnp.float32)
    augmented = augment(x, h, gax.operation)
    if gax.score_space == "normalized":
        x, augmented = model.normalize(x), model.normalize(augmented)
    before, after = model.apply(model.weights, jnp.stack([x, augmented])).astype(jnp.float32)
    rise = np.asarray(after - before, np.float64)
    return rise[solution.label] - np.delete(rise, solution.label).mean()


def assert_same(a: dict[int, Solution], b: dict[int, Solution]) -> None:
    assert a.keys() == b.keys()
    for index in a:
        assert (a[index].outcome, a[index].steps) == (b[index].outcome, b[index].steps), index
        for name in ("co_score", "similarity_loss", "probability_after", "curve", "heatmap"):
            assert_bits(getattr(a[index], name), getattr(b[index], name), name)


def assert_bits(a, b, name: str) -> None:
    """Hold two results together: to the bit where the processor keeps bits, else closely."""
    if SAME_BITS or a is None:
        np.testing.assert_array_equal(a, b, name)
    else:
        wide = (np.asarray(value, np.float32) for value in (a, b))
        np.testing.assert_allclose(*wide, rtol=1e-3, atol=2e-3, err_msg=name)


def test_every_image_reaches_the_target_at_the_first_step_that_does(solved):
    assert sorted(solved) == list(range(40))
    for solution in solved.values():
        assert solution.outcome is Outcome.REACHED
        assert solution.co_score >= GAX.target
        assert len(solution.curve) == solution.steps + 1
        assert np.all(solution.curve[:-1] < GAX.target)
        assert solution.curve[-1] >= GAX.target
        assert solution.co_score_start == solution.curve[0]
    steps = [solution.steps for solution in solved.values()]
    assert 0 in steps  # some reach it before the first update
    assert max(steps) > 10


@pytest.mark.parametrize(
    ("operation", "space"),
    [
        ("sum", "normalized"),
        ("mult", "raw"),
        pytest.param("sum", "raw", marks=pytest.mark.slow),
        pytest.param("mult", "normalized", marks=pytest.mark.slow),
    ],
)
def test_a_stored_heatmap_reproduces_its_stored_score(operation, space):
    gax = GaxConfig(target=60.0, max_steps=60, operation=operation, score_space=space)
    found, _ = tiny.solve(PIXELS, LABELS, gax)
    scored = [s for s in found.values() if s.co_score is not None]
    assert len(scored) > 5
    for solution in scored:
        assert solution.heatmap.dtype == np.float16
        # measured 4e-7 relative
        assert score_in_numpy(solution, gax) == pytest.approx(solution.co_score, rel=5e-6, abs=5e-5)


def test_order_and_moment_of_refill_change_no_bit(solved):
    order = np.random.default_rng(1).permutation(40)
    assert_same(solved, tiny.solve(PIXELS, LABELS, GAX, order=order)[0])


def test_neighbours_change_no_bit(solved):
    some = np.array([3, 11, 12, 30, 31, 32, 33, 39, 0, 7])
    assert_same(
        {int(i): solved[int(i)] for i in some}, tiny.solve(PIXELS, LABELS, GAX, order=some)[0]
    )


def test_batch_size_changes_no_bit(solved):
    assert_same(solved, tiny.solve(PIXELS, LABELS, GAX, batch_size=3)[0])


def test_draining_through_smaller_sizes_changes_no_bit():
    drained, worker = tiny.solve(PIXELS, LABELS, GAX, slots=16)
    assert worker.program.slots == (16, 4)
    whole, worker = tiny.solve(PIXELS, LABELS, GAX, slots=16, drain=False)
    assert worker.program.slots == (16,)
    assert_same(drained, whole)


def test_nothing_compiles_after_warm_up():
    compiled = []

    def listen(event: str, _: float, **__: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    worker = GaxEngine(CLASSIFIER, GAX, EngineConfig(slots=16), image_shape=PIXELS.shape[1:])
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        worker.warm_up()
        assert len(compiled) > 5
        compiled.clear()
        labels = np.where(np.arange(40) % 7 == 0, (LABELS + 1) % tiny.CLASSES, LABELS)
        source = tiny.batches(PIXELS, labels.astype(np.int32), 16)
        assert len(list(worker.run(source))) == 40
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []


def test_slots_stay_busy_until_the_drain():
    pixels = tiny.images(200)
    _, worker = tiny.solve(pixels, tiny.predictions(pixels, CLASSIFIER), GAX)
    assert worker.stats.occupancy > 0.95  # measured 0.98


def test_an_unreachable_target_ends_at_the_step_limit_with_the_best_heatmap():
    gax = GaxConfig(target=1e6, max_steps=7)
    found, _ = tiny.solve(PIXELS[:12], LABELS[:12], gax)
    assert len(found) == 12
    for solution in found.values():
        assert solution.outcome is Outcome.STEP_LIMIT
        assert len(solution.curve) == 8
        assert solution.steps == int(np.argmax(solution.curve))
        # float16 heatmaps: measured 1.4e-4 relative
        assert solution.co_score == pytest.approx(solution.curve.max(), rel=2e-3, abs=0.01)


def test_the_best_heatmap_may_be_an_early_one():
    gax = GaxConfig(target=1e6, max_steps=6, learning_rate=50.0)  # overshoots at once
    found, _ = tiny.solve(PIXELS[:12], LABELS[:12], gax)
    early = [s for s in found.values() if s.steps < 6]
    assert early
    for solution in found.values():
        assert score_in_numpy(solution, gax) == pytest.approx(solution.co_score, rel=1e-5, abs=1e-4)


def test_no_updates_allowed_gives_the_score_of_the_first_heatmap():
    found, _ = tiny.solve(PIXELS[:8], LABELS[:8], GaxConfig(target=1e6, max_steps=0))
    assert {(s.outcome, s.steps, len(s.curve)) for s in found.values()} == {
        (Outcome.STEP_LIMIT, 0, 1)
    }


def test_misclassified_images_are_reported_and_optimised_only_on_request():
    labels = LABELS.copy()
    labels[::4] = (labels[::4] + 1) % tiny.CLASSES
    gax = GaxConfig(target=30.0, max_steps=60)
    found, _ = tiny.solve(PIXELS, labels, gax)
    for index, solution in found.items():
        wrong = index % 4 == 0
        assert (solution.outcome is Outcome.MISCLASSIFIED) == wrong
        assert (solution.heatmap is None) == wrong
        assert solution.prediction == LABELS[index]
        assert solution.label == labels[index]
    every, _ = tiny.solve(
        PIXELS, labels, GaxConfig(target=30.0, max_steps=60, include_misclassified=True)
    )
    assert Outcome.MISCLASSIFIED not in {s.outcome for s in every.values()}
    assert every[0].heatmap is not None


def test_a_score_that_stops_being_finite_ends_that_image_alone():
    def breaks(weights, images):
        logits = tiny._network(weights, images)
        return jnp.where(logits.max(-1, keepdims=True) > 95, jnp.nan, logits)

    fragile = dataclasses.replace(CLASSIFIER, apply=breaks)
    found, _ = tiny.solve(PIXELS, LABELS, GAX, model=fragile)
    healthy, _ = tiny.solve(PIXELS, LABELS, GAX)
    outcomes = {s.outcome for s in found.values()}
    assert outcomes == {Outcome.NOT_FINITE, Outcome.REACHED}
    for index, solution in found.items():
        if solution.outcome is Outcome.REACHED:
            assert solution.co_score == healthy[index].co_score
        elif solution.steps is not None:  # the last finite heatmap is kept
            assert np.isnan(solution.curve[-1])
            assert np.isfinite(solution.co_score)
            assert np.all(np.isfinite(solution.heatmap.astype(np.float32)))
        else:
            assert solution.heatmap is None


def test_bfloat16_stores_scores_that_hold_in_float32():
    found, worker = tiny.solve(PIXELS, LABELS, GAX, precision="bfloat16")
    assert worker.stats.precision == "bfloat16"
    exact, _ = tiny.solve(PIXELS, LABELS, GAX)
    differing = 0
    for index, solution in found.items():
        assert solution.outcome is Outcome.REACHED
        assert score_in_numpy(solution, GAX) >= GAX.target - 1e-3
        assert score_in_numpy(solution, GAX) == pytest.approx(solution.co_score, rel=5e-6)
        differing += solution.curve[0] != exact[index].curve[0]
    assert differing > 30  # it really ran in bfloat16


@pytest.mark.slow
def test_an_image_that_misses_the_target_when_verified_goes_back_and_on():
    # Scores rise by about 2 a step near the target and bfloat16 errs by about 0.4.
    returned = 0
    for target in (99.0, 100.0, 101.0, 102.0, 103.0):
        gax = GaxConfig(target=target, max_steps=60)
        found, worker = tiny.solve(PIXELS, LABELS, gax, precision="bfloat16")
        returned += worker.stats.returned
        for solution in found.values():
            assert solution.outcome is Outcome.REACHED
            assert solution.co_score >= target
            assert len(solution.curve) == solution.steps + 1
    assert returned > 0


def test_quick_images_do_not_wait_for_verification():
    pixels = tiny.images(200)
    labels = tiny.predictions(pixels, CLASSIFIER)
    _, worker = tiny.solve(pixels, labels, GaxConfig(target=20.0, max_steps=60), slots=16)
    assert worker.stats.occupancy > 0.75  # most reach it at once; measured 0.83


@pytest.mark.slow
def test_an_image_that_misses_at_its_last_step_ends_at_the_limit_with_its_best_heatmap():
    config = GaxConfig(target=50.0, max_steps=3)
    image, objective = jnp.asarray(PIXELS[0]), Objective(CLASSIFIER, config, "float32")
    lane = lanes.new_lane(config, image, jnp.int32(0), jnp.int32(0), jnp.float32(0))
    gradients = jax.tree.map(jnp.ones_like, lane.weights)
    lane = lanes.advance(config, lane, jnp.float32(60.0), gradients)  # claims at step 0
    assert int(lane.status) == lanes.REACHED
    returned = lane._replace(status=jnp.int32(lanes.RUNNING), earliest=jnp.int32(1))
    for score in (60.0, 40.0, 41.0, 55.0):  # goes on, and claims again at its last step
        returned = lanes.advance(config, returned, jnp.float32(score), gradients)
    assert (int(returned.status), int(returned.step)) == (lanes.REACHED, 3)
    assert (float(returned.best_score), int(returned.best_step)) == (60.0, 0)
    state = slots.empty_state(
        config, slots=4, capacity=8, image=jax.ShapeDtypeStruct(image.shape, image.dtype)
    )
    parked = jax.tree.map(lambda all, one: all.at[2].set(one), state.parked, returned)
    state = state._replace(parked=parked)
    claimed = slots.collect(objective, state, size=2, dtype=jnp.dtype(jnp.float32))
    assert (int(claimed.slot[0]), int(claimed.heatmap_step[0])) == (2, 3)
    missed = slots.resolve(state, claimed.slot, jnp.array([False, False]))
    ended = slots.collect(objective, missed, size=2, dtype=jnp.dtype(jnp.float32))
    assert int(ended.status[0]) == lanes.STEP_LIMIT
    assert int(ended.heatmap_step[0]) == 0
    np.testing.assert_array_equal(
        ended.heatmap[0], heatmap(returned.best_weights, image.astype(jnp.float32) / 255, config)
    )


@pytest.mark.slow
def test_refills_of_few_slots_give_the_same_results(monkeypatch, solved):
    """As on a GPU, where a refill has a fixed size, chosen by reports of steps ago."""
    monkeypatch.setattr(slots, "refill_sizes", lambda count, _: tuple(sorted({1, 2, count})))
    solutions, worker = tiny.solve(PIXELS, LABELS, GAX)
    assert sorted(worker.program.refill[worker.slots]) == [1, 2, worker.slots]
    assert_same(solutions, solved)


def test_rows_are_written_alike_at_once_and_one_by_one():
    generator = np.random.default_rng(0)
    trees = {"a": jnp.asarray(generator.normal(size=(6, 3))), "b": jnp.arange(6)}
    rows = {"a": jnp.asarray(generator.normal(size=(4, 3))), "b": jnp.arange(10, 14)}
    slot = jnp.array([1, 4, 6, 6])  # the last two are out of range
    found = [write(slot, trees, rows) for write in (slots._write_at_once, slots._write_by_row)]
    assert found[0]["b"].tolist() == found[1]["b"].tolist() == [0, 10, 2, 3, 11, 5]
    np.testing.assert_array_equal(found[0]["a"], found[1]["a"])


def test_a_refill_copies_no_slot_that_it_does_not_fill():
    """Reading lanes after others are written makes XLA copy all of them to be safe."""
    worker = GaxEngine(CLASSIFIER, GAX, EngineConfig(slots=16), image_shape=PIXELS.shape[1:])
    program = worker.warm_up()
    whole = f"16,{tiny.SIZE},{tiny.SIZE},3]"
    for executable in program.refill[16].values():
        lines = executable.as_text().splitlines()
        assert any("input_output_alias" in line for line in lines)
        assert [line for line in lines if " copy(" in line and whole in line] == []


def test_a_source_out_of_memory_is_not_taken_for_the_engines():
    def source():
        yield from tiny.batches(PIXELS[:16], LABELS[:16], 8)
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: the caller's own")

    worker = GaxEngine(CLASSIFIER, GAX, EngineConfig(slots=8), image_shape=PIXELS.shape[1:])
    with pytest.raises(jax.errors.JaxRuntimeError, match="the caller's own"):
        list(worker.run(source()))
    assert worker.stats.halvings == 0


def test_finished_images_come_out_while_the_source_is_slow():
    waiting = threading.Event()

    def source():
        yield from tiny.batches(PIXELS[:16], LABELS[:16], 8)
        assert waiting.wait(timeout=60), "finished images were held back"
        yield from tiny.batches(PIXELS, LABELS, 8, np.arange(16, 24))

    worker = GaxEngine(CLASSIFIER, GAX, EngineConfig(slots=8), image_shape=PIXELS.shape[1:])
    count = 0
    for _ in worker.run(source()):
        count += 1
        if count == 16:
            waiting.set()
    assert count == 24


def test_weights_of_any_type_are_verified_in_float32():
    half = jax.tree_util.Partial(
        tiny._network, [leaf.astype(jnp.bfloat16) for leaf in tiny.weights()]
    )
    model = as_classifier(half, num_classes=tiny.CLASSES)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.weights)} == {jnp.dtype(jnp.float32)}


def test_bfloat16_of_a_function_that_holds_its_weights_is_one_clear_line():
    held = as_classifier(lambda images: tiny.network()(images), num_classes=tiny.CLASSES)
    with pytest.raises(UserError, match="holds its weights itself"):
        GaxEngine(held, GAX, EngineConfig(precision="bfloat16"), image_shape=PIXELS.shape[1:])


def test_running_out_of_memory_halves_the_slots_and_loses_no_image(monkeypatch, solved):
    made = Program.__init__

    def greedy(self, *arguments, slots, **keywords):
        made(self, *arguments, slots=slots, **keywords)
        if slots > 8:
            step, calls = self.step[slots], []

            def fail(*given):
                calls.append(1)
                if len(calls) > 9:
                    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
                return step(*given)

            self.step[slots] = fail

    monkeypatch.setattr(Program, "__init__", greedy)
    found, worker = tiny.solve(PIXELS, LABELS, GAX, slots=32)
    assert worker.stats.halvings == 2
    assert worker.stats.slots == 8
    assert_same(solved, found)


def test_out_of_memory_with_one_slot_is_one_clear_line(monkeypatch):
    def always(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(Program, "__init__", always)
    with pytest.raises(UserError, match="out of device memory with a single slot"):
        tiny.solve(PIXELS, LABELS, GAX, slots=4)


def test_unreadable_images_and_empty_batches_get_through():
    def source():
        yield Batch(np.zeros(0, np.int32), PIXELS[:0], LABELS[:0], ((7, "truncated"),))
        yield Batch(np.array([1], np.int32), PIXELS[1:2], LABELS[1:2], ((9, "not an image"),))

    worker = GaxEngine(CLASSIFIER, GAX, EngineConfig(slots=4), image_shape=PIXELS.shape[1:])
    found = {solution.index: solution for [solution] in worker.run(source())}
    assert found[7].outcome is Outcome.UNREADABLE
    assert found[7].reason == "truncated"
    assert found[9].reason == "not an image"
    assert found[1].outcome is Outcome.REACHED
    assert len(found) == 3


def test_no_images_at_all_give_no_solutions():
    worker = GaxEngine(CLASSIFIER, GAX, EngineConfig(slots=4), image_shape=PIXELS.shape[1:])
    assert list(worker.run(iter(()))) == []


def test_an_error_of_the_image_source_reaches_the_caller():
    def source():
        yield from tiny.batches(PIXELS, LABELS, 8)
        raise OSError("the disk is gone")

    worker = GaxEngine(CLASSIFIER, GAX, EngineConfig(slots=8), image_shape=PIXELS.shape[1:])
    with pytest.raises(OSError, match="the disk is gone"):
        list(worker.run(source()))


def test_more_devices_than_there_are_is_one_clear_line():
    with pytest.raises(UserError, match="--devices 99 asks for more devices than the"):
        GaxEngine(CLASSIFIER, GAX, EngineConfig(devices=99), image_shape=PIXELS.shape[1:])


def test_four_devices_give_the_bits_of_one(solved, tmp_path):
    script = """
import numpy as np, jax, sys, test_engine as t, tiny
assert len(jax.devices()) == 4
found, worker = tiny.solve(t.PIXELS, t.LABELS, t.GAX)
assert worker.stats.devices == 4, worker.stats
np.savez(sys.argv[1], **{f"{i}": s.heatmap for i, s in found.items()},
         **{f"curve{i}": s.curve for i, s in found.items()})
"""
    with tiny.run_on_devices(4, script, tmp_path / "four.npz") as four:
        for index, solution in solved.items():
            assert_bits(four[f"curve{index}"], solution.curve, "curve")
            assert_bits(four[str(index)], solution.heatmap, "heatmap")


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of a CPU alone")
@pytest.mark.parametrize("count", [8, 11])
def test_a_cpu_takes_no_step_for_lanes_that_have_all_ended(count):
    gax = dataclasses.replace(GAX, target=1e9, max_steps=4)
    found, worker = tiny.solve(PIXELS[:count], LABELS[:count], gax, drain=False)
    assert {solution.outcome for solution in found.values()} == {Outcome.STEP_LIMIT}
    assert worker.stats.steps == 5 * -(-count // 8)
