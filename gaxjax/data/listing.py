"""A folder of images that is known by a list of its files: behind a URL, or in an archive.

It answers what `Walk` answers of a folder on a disk, so that class folders, splits and flat folders
are told apart in one place, whatever they lie in.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

from gaxjax.data.decode import holds_image
from gaxjax.data.image_source import ImageSource, StorageError
from gaxjax.data.walking import IMAGE_SUFFIXES, NOT_OURS, passed_over_notes


class Listing:
    """One look through a list of files; it remembers what was passed over.

    Args:
        name: what the user called the whole.
        source: where the images are read.
        paths: the files' POSIX paths under the root.
        start_of: gives a file's first bytes, for a name without a suffix.
        notes: what else people should know of it.

    Example:
        >>> from gaxjax.data.image_source import FolderSource
        >>> source = FolderSource(Path("val"))
        >>> listing = Listing("val", source, ["cat/0.png", "dog/0.png", "dog/note.txt"], bytes)
        >>> listing.folders_and_images()
        (['cat', 'dog'], [])
        >>> list(listing.images("dog", label="dog"))
        ['dog/0.png']
    """

    def __init__(
        self,
        name: str,
        source: ImageSource,
        paths: Iterable[str],
        start_of: Callable[[str], bytes],
        notes: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.source = source
        self._start_of = start_of
        self._notes = notes
        self._passed_over: dict[str, str] = {}
        self._folders: dict[str, set[str]] = {"": set()}
        self._files: dict[str, list[str]] = {"": []}
        for path in sorted(paths):
            self._add(path)

    def _add(self, path: str) -> None:
        """Put a file into its folder, unless it or a folder above is hidden or not ours."""
        *folders, file = path.split("/")
        if any(part.startswith(".") for part in (*folders, file)):
            return
        for depth, part in enumerate(folders):
            if part in NOT_OURS:
                self._passed_over["/".join(folders[: depth + 1])] = f"{part} folders"
                return
        for depth, part in enumerate(folders):
            inner = "/".join(folders[: depth + 1])
            self._folders["/".join(folders[:depth])].add(part)
            self._folders.setdefault(inner, set())
            self._files.setdefault(inner, [])
        self._files["/".join(folders)].append(file)

    def folders_and_images(self, inside: str = "") -> tuple[list[str], list[str]]:
        """Return the sorted names of the folders and of the images directly in a folder."""
        prefix = f"{inside}/" if inside else ""
        images = [file for file in self._files[inside] if self._is_image(prefix + file)]
        return sorted(self._folders[inside]), images

    def images(self, inside: str, *, label: str) -> Iterator[str]:
        """Yield the images below a folder as POSIX paths under the root; the label is the caller's.

        Args:
            inside: POSIX path under the root.
            label: of all images there.
        """
        waiting = [inside]
        while waiting:
            folder = waiting.pop()
            waiting += [f"{folder}/{name}" for name in sorted(self._folders[folder], reverse=True)]
            for file in self._files[folder]:
                if self._is_image(f"{folder}/{file}"):
                    yield f"{folder}/{file}"

    def has_folder(self, inside: str) -> bool:
        """Tell whether there is a folder of this name."""
        return inside in self._folders

    def notes(self) -> tuple[str, ...]:
        """Say what was passed over, a sentence each; nothing where all was taken."""
        return (*self._notes, *passed_over_notes(self._passed_over))

    def _is_image(self, path: str) -> bool:
        if path in self._passed_over:
            return False
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in IMAGE_SUFFIXES or (not suffix and self._holds_image(path)):
            return True
        self._passed_over[path] = suffix or "without suffix"
        return False

    def _holds_image(self, path: str) -> bool:
        try:
            return holds_image(self._start_of(path))
        except StorageError:
            return False
