"""What lies in a folder of images: folders, images, and what is passed over, counted and told.

Links are followed, because subsets of ImageNet are often made of them; but no link leads back
above itself, where the images of other classes lie.
"""

import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from gaxjax.common import UserError, counted
from gaxjax.data.decode import holds_image
from gaxjax.data.image_source import FolderSource, ImageSource

FIRST_SUFFIXES = frozenset(
    ".jpg .jpeg .png .bmp .webp .gif .tif .tiff .ppm .pgm".split()  # noqa: SIM905
)
"""Those of earlier versions, by which their stored runs and divisions are read."""

IMAGE_SUFFIXES = FIRST_SUFFIXES | frozenset(
    ".jpe .jfif .apng .dib .pbm .pnm .jp2 .j2k .j2c .jpc .jpf .jpx .avif .tga .qoi".split()  # noqa: SIM905
)
"""File names that count as images, in any case; one without a suffix is looked into."""

NOT_OURS = ("@eaDir", "__MACOSX")
"""Folders of other programs: Synology's thumbnails, macOS's shadow files."""

_MOST_ENTRIES = 8  # of one folder through links; links among n folders make n! paths
_MOST_SUFFIXES = 6

_Key = tuple[int, int]


@runtime_checkable
class FolderView(Protocol):
    """A folder of images that can be asked what lies where: on a disk, by URL, or in an archive."""

    name: str
    """What the user called it."""

    @property
    def source(self) -> ImageSource:
        """Where its images are read."""
        ...

    def folders_and_images(self, inside: str = "") -> tuple[list[str], list[str]]:
        """Return the sorted names of the folders and of the images directly in a folder."""
        ...

    def images(self, inside: str, *, label: str) -> Iterator[str]:
        """Yield the images below a folder as POSIX paths under the root."""
        ...

    def has_folder(self, inside: str) -> bool:
        """Tell whether there is a folder of this name."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Say what was passed over, a sentence each."""
        ...


class Walk:
    """One look through a folder on a disk; it remembers what was passed over.

    Args:
        root: the folder.
        earlier: whether to take the images that earlier versions took, by `FIRST_SUFFIXES`.

    Example:
        >>> walk = Walk(Path("chest_xray"))
        >>> walk.folders_and_images("train")
        (['NORMAL', 'PNEUMONIA'], [])
        >>> len(list(walk.images("train/NORMAL", label="NORMAL")))
        20
    """

    def __init__(self, root: Path, *, earlier: bool = False) -> None:
        self.root = root
        self.name = str(root)
        self.source = FolderSource(root)
        self._earlier = earlier
        self._passed_over: dict[str, str] = {}
        self._links: dict[str, None] = {}
        self._label_of: dict[_Key, tuple[str, str]] = {}

    def folders_and_images(self, inside: str = "") -> tuple[list[str], list[str]]:
        """Return the sorted names of the folders and of the images directly in a folder.

        Raises:
            UserError: the folder cannot be read.
        """
        folders, images = [], []
        for entry in self._entries(inside):
            path = f"{inside}/{entry.name}" if inside else entry.name
            if self._is_folder(entry, path):
                folders.append(entry.name)
            elif self._is_image(entry, path):
                images.append(entry.name)
        return folders, images

    def images(self, inside: str, *, label: str) -> Iterator[str]:
        """Yield the images below `root/inside` as POSIX paths under `root`, following links.

        A link to a folder that it lies in is passed over.

        Args:
            inside: POSIX path under the root.
            label: of all images there.

        Raises:
            UserError: a folder cannot be read, or its images were met under another label.
        """
        entries: Counter[_Key] = Counter()
        # What lies here goes first, what links lead to last: its number of paths is bounded.
        waiting = deque([(inside, False, frozenset(map(self._key, _above(self.root, inside))))])
        while waiting:
            folder, linked, above = waiting.popleft()
            here = self._key(self.root / folder)
            entries[here] += 1
            if here in above or (linked and entries[here] > _MOST_ENTRIES):
                if folder == inside:
                    raise UserError(
                        f"{self.root / folder} is a link to a folder that it lies in, which holds "
                        "all classes; remove the link"
                    )
                self._links[folder] = None
                continue
            images = []
            for entry in self._entries(folder):
                path = f"{folder}/{entry.name}"
                if self._is_folder(entry, path):
                    below = (path, linked or entry.is_symlink(), above | {here})
                    (waiting.append if below[1] else waiting.appendleft)(below)
                elif self._is_image(entry, path):
                    images.append(path)
            if images:
                self._require_label(here, label, folder)
            yield from images

    def notes(self) -> tuple[str, ...]:
        """Say what was passed over, a sentence each; nothing where all was taken."""
        notes = passed_over_notes(self._passed_over)
        if self._links:
            notes.append(
                f"{counted(len(self._links), 'link')} passed over, which lead in a circle "
                f"(first: {next(iter(self._links))})"
            )
        return tuple(notes)

    def has_folder(self, inside: str) -> bool:
        """Tell whether there is a folder of this name."""
        return (self.root / inside).is_dir()

    # --- One entry -------------------------------------------------------------------------------

    def _entries(self, inside: str) -> list[os.DirEntry[str]]:
        """List what is in a folder by name, without hidden entries and other programs' folders."""
        try:
            with os.scandir(self.root / inside) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            raise _cannot_read(self.root / inside, error) from None
        return sorted(visible, key=lambda entry: entry.name)

    def _is_folder(self, entry: os.DirEntry[str], path: str) -> bool:
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link in a circle, or into a folder without permission
            return False
        if is_folder and entry.name in NOT_OURS:
            self._passed_over[path] = f"{entry.name} folders"
            return False
        return is_folder

    def _is_image(self, entry: os.DirEntry[str], path: str) -> bool:
        """Tell whether an entry that is no folder counts as an image; if not, remember it."""
        if path in self._passed_over or path in self._links:
            return False
        suffix = Path(entry.name).suffix.lower()
        if suffix in (FIRST_SUFFIXES if self._earlier else IMAGE_SUFFIXES):
            return True  # also a broken link: it is an image that cannot be read
        try:
            is_file = entry.is_file()
        except OSError:
            self._links[path] = None
            return False
        if not suffix and is_file and not self._earlier and holds_image(self.root / path):
            return True
        kind = suffix or "without suffix"
        self._passed_over[path] = kind if is_file else "no files"
        return False

    def _key(self, folder: Path) -> _Key:
        try:
            status = folder.stat()
        except OSError as error:
            raise _cannot_read(folder, error) from None
        return status.st_dev, status.st_ino

    def _require_label(self, folder: _Key, label: str, path: str) -> None:
        """Refuse a folder's images under a second label."""
        first, where = self._label_of.setdefault(folder, (label, path))
        if first != label:
            raise UserError(
                f"{self.root / where} and {self.root / path} are the same folder by a link, so "
                f"its images would be {first} and {label}; remove one of the two"
            )


def passed_over_notes(passed_over: Mapping[str, str]) -> list[str]:
    """Say how many files were passed over: none, or one sentence.

    Args:
        passed_over: the kind of each, by its path.
    """
    if not passed_over:
        return []
    kinds = Counter(passed_over.values()).most_common()
    some = ", ".join(f"{kind} {count}" for kind, count in kinds[:_MOST_SUFFIXES])
    rest = sum(count for _, count in kinds[_MOST_SUFFIXES:])
    some += f", others {rest}" if rest else ""
    return [
        f"{counted(len(passed_over), 'file')} passed over, which by name or content are no images "
        f"that are read: {some} (first: {next(iter(passed_over))})"
    ]


def _above(root: Path, inside: str) -> list[Path]:
    """Return all folders above one, by the path that leads to it and by where it really lies."""
    folder = Path(os.path.abspath(root)) / inside
    return list(dict.fromkeys([*folder.parents, *Path(os.path.realpath(folder)).parents]))


def _cannot_read(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot read the folder {folder}: {error.strerror}; make it readable, or take it out"
    )
