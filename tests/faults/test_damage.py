"""A damaged run: every command answers as of the whole one, or says in a line what is wrong.

`GAXJAX_FUZZ=20 pytest tests/faults/test_damage.py` draws some 70 times as many kinds of damage;
`python tests/faults/damager.py` prints what each command says of each.
"""

import random

import jaxtyping
import pytest
from damager import COMMANDS, FAULTS, KINDS, make_run
from fuzzing import fuzz
from hypothesis import strategies as st

DEAR = ("report", "view", "verify", "resume", "repair and resume")
"""Commands that take a second each."""
RANDOM = st.randoms(use_true_random=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    jaxtyping.config.update("jaxtyping_disable", True)  # as outside tests: nothing else checks
    yield make_run(tmp_path_factory.mktemp("damaged"))
    jaxtyping.config.update("jaxtyping_disable", False)


@fuzz(60, kind=st.sampled_from(list(KINDS)), chosen=RANDOM)
def test_what_is_read_of_a_damaged_run_is_right_or_refused(run, kind, chosen):
    what = run.damage(kind, chosen)
    for command in COMMANDS.keys() - set(DEAR):
        outcome, words = run.ask(command)
        assert outcome not in FAULTS, f"{what}: {command}: {outcome}: {words}"


@fuzz(24, kind=st.sampled_from(list(KINDS)), command=st.sampled_from(DEAR), chosen=RANDOM)
def test_a_command_on_a_damaged_run_ends_right_or_in_a_line(run, kind, command, chosen):
    what = run.damage(kind, chosen)
    outcome, words = run.ask(command)
    assert outcome not in FAULTS, f"{what}: {outcome}: {words}"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_damage_damages(run, kind):
    whole = contents(run.path)
    run.damage(kind, random.Random(1))
    run.ask("read_scores")
    assert contents(run.path) != whole


def contents(folder):
    files = sorted(folder.rglob("*"))
    return [(path, path.is_file() and path.read_bytes()) for path in files]


@pytest.mark.slow
def test_a_thousand_damages_give_no_traceback_and_no_wrong_number(run):
    faults = []
    for seed in range(1000):
        what = run.damage(list(KINDS)[seed % len(KINDS)], random.Random(seed))
        for command in COMMANDS:
            outcome, words = run.ask(command)
            if outcome in FAULTS:
                faults.append(f"{what}: {command}: {outcome}: {words}")
    assert not faults
