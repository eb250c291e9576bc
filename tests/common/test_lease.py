"""Leases: one process at a time where a storage has no locks."""

import json
import threading
import time
import uuid

import fsspec
import pytest

from gaxjax.common import NotWrittenError, UserError, held_locks, lock
from gaxjax.common.lease import Lease, held_leases
from gaxjax.common.remote import place_at


@pytest.fixture
def folder():
    return place_at(f"memory://{uuid.uuid4().hex}/run", "--output")


def files(folder, name="run") -> dict[int, dict]:
    found = fsspec.filesystem("memory").ls(f"{folder.path}/.leases/{name}", detail=False)
    return {
        int(path.rpartition("/")[2][:8]): json.loads(fsspec.filesystem("memory").cat_file(path))
        for path in found
    }


def test_one_process_has_it_until_it_is_given_up(folder):
    first = Lease(folder, "run", seconds=2.0)
    with pytest.raises(UserError, match=r"in use by another gaxjax process \(process \d+ on "):
        Lease(folder, "run")
    Lease(folder, "writer-0").close()  # another lease of the folder
    first.check()
    first.close()
    second = Lease(folder, "run")
    second.check()
    second.close()
    assert list(files(folder)) == [2]


def test_it_is_renewed_while_it_is_held(folder):
    held = Lease(folder, "run", seconds=2.0)
    before = files(folder)[1]["until"]
    time.sleep(3.0)  # longer than it is taken for
    assert files(folder)[1]["until"] > before
    held.check()
    held.close()
    assert files(folder)[1]["until"] == 0.0


def expired(folder, number=1, name="run", **values):
    told = {"owner": "process 1 on elsewhere", "token": "gone", "until": time.time() - 100} | values
    path = f"{folder.path}/.leases/{name}/{number:08d}.json"
    fsspec.filesystem("memory").pipe_file(path, json.dumps(told).encode())


def test_one_that_ended_is_taken_over_by_one_alone(folder):
    expired(folder)
    taken, refused = [], []

    def take():
        try:
            taken.append(Lease(folder, "run", seconds=2.0))
        except UserError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 7)
    taken[0].close()


def test_who_lost_it_stops_before_it_writes(folder):
    held = Lease(folder, "run", seconds=60.0)
    expired(folder, 2, until=time.time() + 60)  # another took it, as after a suspended machine
    held._seconds = 0.1
    held._until = time.time() - 1
    with pytest.raises(NotWrittenError, match=r"lease on memory://.* was lost .*committed is safe"):
        held.check()
    held.close()
    assert files(folder)[2]["until"] > time.time()  # the other's is as it was


def test_one_of_a_killed_process_is_waited_for(folder, capsys):
    expired(folder, until=time.time() - 4.5)  # not yet by the other's clock, perhaps
    Lease(folder, "run").close()
    assert "waiting for process 1 on elsewhere, whose lease on memory://" in capsys.readouterr().err


def test_one_that_is_given_up_is_waited_for(folder):
    first = Lease(folder, "run")
    threading.Timer(0.5, first.close).start()
    Lease(folder, "run", wait=30.0).close()


def test_what_says_nothing_holds_nothing(folder):
    fsspec.filesystem("memory").pipe_file(f"{folder.path}/.leases/run/00000007.json", b"{")
    Lease(folder, "run").close()
    assert list(files(folder)) == [8]


def test_locks_by_url_are_leases(folder):
    with lock(folder), lock(folder, "writer-3") as held:
        held.check()
        assert held_locks(folder, "writer-") == held_leases(folder, "writer-") == ["writer-3"]
    assert held_locks(folder, "writer-") == []


def test_a_storage_that_cannot_be_written_is_one_line(folder, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(folder.fs), "pipe_file", refuse)
    with pytest.raises(UserError, match=r"cannot write to output folder memory://.*Access Denied"):
        Lease(folder, "run")
