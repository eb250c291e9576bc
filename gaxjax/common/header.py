"""What a run's or a training's folder is: one JSON file in it, and the refusal of another one.

    identity   what must be the same for the folder to be resumed: command, settings, fingerprints
    sessions   one entry each time that somebody worked on it
    status     running, then complete

    sha256     of all the rest: a file that was altered is not believed

The rest of the file is its owner's.
"""

import json
from typing import Any

from gaxjax.common.errors import UserError
from gaxjax.common.files import cannot_write, replacing
from gaxjax.common.paths import cannot_read
from gaxjax.common.remote import AnyPath
from gaxjax.common.stored import stored_json, with_checksum
from gaxjax.common.text import one_line

__all__ = [
    "RESUME",
    "FolderHeader",
    "damaged",
    "read_values",
    "refuse_another",
    "refuse_strangers",
]

RESUME = "what was kept before is safe; mend it and give the same command again to resume"
"""What to say where a folder's file cannot be written."""


class FolderHeader:
    """A folder's description; the file is whole at every moment. Its values are read as a dict's.

    Args:
        file: such as `run.json`, in a folder whose lock is held.
        values: what the file of a new folder holds, `identity` among it.
        there: what the file of an old folder holds from now on; None begins a new one.

    Raises:
        UserError: `there` has another identity, and the message names what differs; or the file
            cannot be written, as from the methods that write.
    """

    def __init__(self, file: AnyPath, values: dict[str, Any], there: dict[str, Any] | None) -> None:
        self._file = file
        if there is None:
            self._values = {**values, "sessions": []}
            self.write()
        else:
            refuse_another(file.parent, there["identity"], values["identity"])
            self._values = there

    @property
    def values(self) -> dict[str, Any]:
        """All of them."""
        return self._values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def write(self, **changes: Any) -> None:
        """Write the file anew, whole or not at all, with some values changed."""
        self._values |= changes
        self._values = with_checksum(self._values)
        try:
            with replacing(self._file) as temporary:
                temporary.write_text(json.dumps(self._values, indent=2) + "\n")
        except OSError as error:
            raise cannot_write(self._file, error, RESUME) from error

    def begin_session(self, session: dict[str, Any]) -> None:
        """Note when, where and with what somebody begins to work on the folder."""
        self.write(status="running", sessions=[*self["sessions"], session])

    def update_session(self, figures: dict[str, Any], position: int = -1) -> None:
        """Note what came of the session at a position, the last one when not given."""
        sessions = list(self["sessions"])
        sessions[position] = sessions[position] | figures
        self.write(sessions=sessions)


def read_values(file: AnyPath, form: Any) -> dict[str, Any]:
    """Read a header's file.

    Args:
        file: such as `run.json`.
        form: the `TypedDict` that it is written as; what else it holds is given too.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file.
        UserError: it is damaged, or the system does not let it be read.
    """
    try:
        values: dict[str, Any] = stored_json(file, form)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise cannot_read(file, error) from None
    except ValueError as error:
        raise damaged(file, one_line(error)) from None
    return values


def damaged(path: AnyPath, reason: object, mend: str = "restore it or start anew") -> UserError:
    """Return the one line for a part of a folder that cannot be read."""
    return UserError(f"{path} is damaged ({reason}): {mend}")


def refuse_another(path: AnyPath, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Refuse to resume what was begun otherwise.

    Args:
        path: the folder.
        there: what makes it what it is: `command`, settings, fingerprints.
        here: what is asked for.

    Raises:
        UserError: they differ; the message names what.
    """
    if there.get("command") != here.get("command"):
        raise UserError(
            f"{path} holds a run of gaxjax {there.get('command')}: choose another --output"
        )
    differing = [
        f"{name} is {_short(there.get(name))} there and {_short(here.get(name))} here"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise UserError(
            f"{path} holds another run: {'; '.join(differing)}. "
            "Choose another --output, or give the same settings to resume it"
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def refuse_strangers(path: AnyPath, description: str, *earlier: str) -> None:
    """Refuse a folder with files in it but without ``description``.

    Args:
        path: the folder, which may be missing.
        description: the file that makes a folder ours.
        earlier: files that are written before it, and may be there alone after a crash.

    Raises:
        UserError: there are some; the message names one.
    """
    if not path.is_dir() or (path / description).exists():
        return
    ours = {".lock", ".leases", *earlier, *(f".{name}.tmp" for name in (description, *earlier))}
    names = [entry.name for entry in path.iterdir()]
    strangers = [name for name in names if name not in ours and not name.startswith(".writer-")]
    if strangers:
        raise UserError(
            f"output folder {path} is not empty and holds no gaxjax run "
            f"(found {sorted(strangers)[0]}): choose another --output"
        )
