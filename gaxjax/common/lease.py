"""A lock for a folder in a storage that has none: a lease, which ends unless it is renewed.

    RUN/.leases/NAME/00000003.json   {"owner": …, "until": seconds since 1970}

The highest number counts. A lease is taken by making the next number, which the storage lets one
process alone do, and only where the one before has ended; it is renewed by a thread, and given up
by letting it end at once. Who finds it taken waits until it ends, as after a kill, or is renewed.
Who could not renew it in time has lost it, and stops before it writes.
Clocks of machines that share a folder must agree to within some seconds.
"""

import json
import os
import platform
import secrets
import sys
import threading
import time
from typing import Any

from gaxjax.common.errors import NotWrittenError, UserError
from gaxjax.common.remote import AnyPath, file_system, remote_reason, trying_again

__all__ = ["Lease", "held_leases"]

_SECONDS = 60.0
_AGREE = 5.0  # seconds by which clocks may differ


class Lease:
    """One, taken when it is made and kept until `close`.

    Args:
        folder: what it is for, a URL's path.
        name: of the lease in the folder.
        wait: seconds to wait, at least, for one that another process holds and renews.
        seconds: for which it is taken and renewed.

    Raises:
        UserError: another process holds it; or the storage cannot be written.
    """

    def __init__(
        self, folder: AnyPath, name: str, *, wait: float = 0.0, seconds: float = _SECONDS
    ) -> None:
        self._folder, self._seconds = folder, seconds
        self._system, root = file_system(str(folder), "--output")
        self._place = f"{root.rstrip('/')}/.leases/{name}"
        self._token = secrets.token_hex(8)
        self._over = threading.Event()
        self._until = 0.0
        self._fault = ""
        try:
            self._number = self._taken(wait)
        except UserError:
            raise
        except Exception as error:  # file systems raise what they like
            raise UserError(
                f"cannot write to output folder {folder}: {remote_reason(error)}"
            ) from error
        self._renewing = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)
        self._renewing.start()

    def check(self) -> None:
        """Refuse to go on where the lease was lost.

        Raises:
            NotWrittenError: it was.
        """
        if self._fault or time.time() > self._until - self._seconds / 12:
            raise NotWrittenError(
                f"the lease on {self._folder} was lost ({self._fault or 'it was not renewed'}): "
                "what was committed is safe; give the same command again to resume"
            )

    def close(self) -> None:
        """Give it up."""
        self._over.set()
        self._renewing.join()
        if not self._fault:
            try:
                self._write(until=0.0)
            except Exception:  # it ends by itself
                return

    # --- Taking ----------------------------------------------------------------------------------

    def _taken(self, wait: float) -> int:
        """Take the next number; return it."""
        deadline = time.monotonic() + wait
        seen: float | None = None
        while True:
            number, last = _last(self._system, self._place)
            if last is None or _has_ended(last):
                try:
                    self._create(number + 1)
                except FileExistsError:
                    continue  # another process was quicker
                # A storage that knows no exclusive writes lets the later one win: look again.
                if _read(self._system, self._path(number + 1)).get("token") == self._token:
                    self._remove_earlier(number)
                    return number + 1
            elif seen is None:
                seen = last["until"]
                self._say(last)
            elif last["until"] > seen and time.monotonic() >= deadline:  # it lives, and renews it
                raise UserError(
                    f"{self._folder} is in use by another gaxjax process ({last.get('owner')})"
                )
            time.sleep(min(1.0, self._seconds / 10))

    def _say(self, last: dict[str, Any]) -> None:
        left = last["until"] + _AGREE - time.time()
        print(
            f"waiting for {last.get('owner')}, whose lease on {self._folder} ends in {left:.0f} s "
            "unless it is renewed",
            file=sys.stderr,
            flush=True,
        )

    def _create(self, number: int) -> None:
        self._until = time.time() + self._seconds
        self._system.pipe_file(self._path(number), self._bytes(self._until), mode="create")

    def _remove_earlier(self, number: int) -> None:
        for earlier in (number, number - 1):
            try:
                self._system.rm_file(self._path(earlier))
            except Exception:  # nothing depends on it
                return

    # --- Keeping ---------------------------------------------------------------------------------

    def _renew(self) -> None:
        while not self._over.wait(self._seconds / 4):
            try:
                number, last = trying_again(lambda: _last(self._system, self._place))
                if number != self._number or (last or {}).get("token") != self._token:
                    self._fault = "another process has taken it"
                    return
                until = time.time() + self._seconds
                self._write(until=until)
                self._until = until
            except Exception:  # `check` sees when it has ended; until then it may work again
                continue

    def _write(self, *, until: float) -> None:
        data = self._bytes(until)
        trying_again(lambda: self._system.pipe_file(self._path(self._number), data))

    def _bytes(self, until: float) -> bytes:
        owner = f"process {os.getpid()} on {platform.node() or 'this machine'}"
        return json.dumps({"owner": owner, "token": self._token, "until": until}).encode()

    def _path(self, number: int) -> str:
        return f"{self._place}/{number:08d}.json"


def held_leases(folder: AnyPath, prefix: str) -> list[str]:
    """Return the names that begin so of the leases on a folder that somebody holds."""
    system, root = file_system(str(folder), "run")
    place = f"{root.rstrip('/')}/.leases"
    names = [path.rstrip("/").rpartition("/")[2] for path in _listed(system, place)]
    held = []
    for name in sorted(names):
        if name.startswith(prefix):
            _, last = _last(system, f"{place}/{name}")
            if last is not None and not _has_ended(last):
                held.append(name)
    return held


def _last(system: Any, place: str) -> tuple[int, dict[str, Any] | None]:
    """Return the highest number and what it says; 0 and None where there is none."""
    numbers = [path.rpartition("/")[2].removesuffix(".json") for path in _listed(system, place)]
    number = max((int(each) for each in numbers if each.isdigit()), default=0)
    if not number:
        return 0, None
    try:
        return number, _read(system, f"{place}/{number:08d}.json")
    except FileNotFoundError:  # a later one was taken in between
        return number, {"until": time.time() + 1}


def _listed(system: Any, place: str) -> list[str]:
    try:
        found: list[str] = system.ls(place, detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return found


def _read(system: Any, path: str) -> dict[str, Any]:
    try:
        values = json.loads(system.cat_file(path))
        return {**values, "until": float(values["until"])}
    except (ValueError, TypeError, KeyError):  # nobody can hold what says nothing
        return {"until": 0.0}


def _has_ended(values: dict[str, Any]) -> bool:
    return bool(values["until"] + _AGREE < time.time()) or values["until"] == 0.0
