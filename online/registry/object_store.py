"""The object store: a copy of the registry's files at any fsspec URL, which several installations share."""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Generic, TypeVar

import fsspec
from fsspec.utils import get_protocol

from guard.errors import SirlError

T = TypeVar("T")


class ObjectStoreError(SirlError):
    """The store cannot be used now, or not at all."""


class _Call(Thread, Generic[T]):
    """One operation in a thread of its own, for no file system promises to end; should one hang, it holds up no exit."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="sirl-store", daemon=True)
        self._work = work
        self.result: T | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.result = self._work()
        except Exception as error:  # every file system has its own: botocore's, aiohttp's, paramiko's
            self.error = error


def versions_in(names: Iterable[str]) -> set[int]:
    """The numbers of versions that files of these names belong to."""
    return {int(match[1]) for name in names if (match := re.match(r"v([1-9][0-9]{0,8})/", name))}


class ObjectStore:
    """Files by their names relative to the URL, such as "v3/manifest.json".

    Every operation raises ObjectStoreError, in one sentence without the URL (which may hold secrets), where it fails or
    takes longer than `timeout_s` seconds. To make one connects to nothing; ObjectStoreError where no file system goes by
    that URL.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._opened: tuple[fsspec.AbstractFileSystem, str] | None = None
        """The file system and our root in it, kept while it works: fsspec would make another in every thread."""
        self._closed = False
        protocol = get_protocol(url)
        try:
            fsspec.get_filesystem_class(protocol)
        except (ValueError, ImportError) as error:
            raise ObjectStoreError(f"registry.url begins with {protocol}, which cannot be used here ({error}).") from None

    def listing(self) -> dict[str, str]:
        """Every file there: name -> what changes with its content."""

        def work(files: fsspec.AbstractFileSystem, root: str) -> dict[str, str]:
            files.invalidate_cache()  # others write there as well
            found = files.find(root, detail=True)
            if not found:
                with suppress(FileNotFoundError):  # where nothing was written yet
                    files.ls(root)  # `find` leaves out what cannot be listed, and would call a dead store empty
            return {path.removeprefix(f"{root}/"): str(info) for path, info in found.items()}

        return self._do(work)

    def numbers(self) -> list[int]:
        """Of all versions of which anything is there, even half a one."""
        return sorted(versions_in(self.listing()))

    def read(self, name: str) -> bytes:
        def work(files: fsspec.AbstractFileSystem, root: str) -> bytes:
            content: bytes = files.cat_file(f"{root}/{name}")
            return content

        return self._do(work)

    def write(self, name: str, content: bytes) -> None:
        def work(files: fsspec.AbstractFileSystem, root: str) -> None:
            files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
            files.pipe_file(f"{root}/{name}", content)
            _check_size(files, f"{root}/{name}", len(content))

        self._do(work)

    def get(self, name: str, path: Path) -> None:
        """Download a file that may be large."""
        self._do(lambda files, root: files.get_file(f"{root}/{name}", str(path)))

    def put(self, path: Path, name: str) -> None:
        """Upload one."""

        def work(files: fsspec.AbstractFileSystem, root: str) -> None:
            files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
            files.put_file(str(path), f"{root}/{name}")
            _check_size(files, f"{root}/{name}", path.stat().st_size)

        self._do(work)

    def delete(self, name: str) -> None:
        self._do(lambda files, root: files.rm_file(f"{root}/{name}"))

    def close(self) -> None:
        """No further operation begins."""
        self._closed = True

    def _do(self, work: Callable[[fsspec.AbstractFileSystem, str], T]) -> T:
        if self._closed:
            raise ObjectStoreError("The store is not asked any more, for what asked it ends.")

        def run() -> T:
            opened = self._opened = self._opened or fsspec.url_to_fs(self._url, skip_instance_cache=True)
            return work(*opened)

        call = _Call(run)
        call.start()
        call.join(self._timeout_s)
        if call.is_alive() or call.error is not None:
            self._opened = None  # a connection that broke is not used again
        if call.is_alive():
            raise ObjectStoreError(
                f"The store did not answer within {self._timeout_s:g} s: see to it, or raise registry.timeout_s."
            )
        if call.error is not None:
            raise ObjectStoreError(f"The store cannot be used ({self._told(call.error)}): see to it or mend registry.url.")
        return call.result  # type: ignore[return-value]  # there is one where there is no error

    def _told(self, error: Exception) -> str:
        """An error in a line, without what the URL may have of secrets."""
        said = " ".join(str(error).replace(self._url, "registry.url").split())
        return re.sub(r"//[^/@\s]*@", "//", f"{type(error).__name__}: {said}".removesuffix(": ").rstrip("."))


def _check_size(files: fsspec.AbstractFileSystem, path: str, size: int) -> None:
    """What was cut short is not taken for written, and so is written again the next time."""
    if (there := files.size(path)) != size:
        raise OSError(f"it kept {there} of {size} bytes")
