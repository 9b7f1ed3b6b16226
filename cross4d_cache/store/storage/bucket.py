"""Objects of an S3 bucket, through fsspec."""

import errno
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cross4d_cache.errors import CacheUnreachableError
from cross4d_cache.installed import needed
from cross4d_cache.store.storage.source import BLOCK, Source

REQUEST = 8 * BLOCK
"""Bytes of one request: every one takes tens of milliseconds."""


class BucketSource(Source):
    """Objects below `s3://BUCKET/PREFIX`. Keys and endpoint come from where AWS' own tools take them, or from fsspec's environment
    variables (`FSSPEC_S3_ENDPOINT_URL`, `FSSPEC_S3_ANON`).

    Raises:
        SettingsError: the extra `s3` is not installed.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        super().__init__(url.rstrip("/"))
        self._root = f"{parts.netloc}{parts.path}".rstrip("/")
        with needed("s3fs", f"reads {url}", "pip install 'cross4d[s3]'"):
            import fsspec

            self._files = fsspec.filesystem("s3")

    def size(self, name: str) -> int:
        """Bytes of an object."""
        return int(self._ask(name, self._files.size))

    def stream(self, name: str, start: int, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes of an object from `start`, in blocks."""
        position, end = start, start + size
        while position < end:
            stop = min(position + REQUEST, end)
            data: bytes = self._ask(name, self._files.cat_file, start=position, end=stop)
            if len(data) != stop - position:
                raise ValueError(f"the object gave {len(data)} bytes in place of {stop - position}")
            position = stop
            yield data

    def names(self) -> list[str]:
        """All objects, sorted."""
        found: list[str] = self._ask("", self._files.find)
        return sorted(name.removeprefix(f"{self._root}/") for name in found)

    def _ask(self, name: str, call: Any, **options: object) -> Any:
        try:
            return call(f"{self._root}/{name}".rstrip("/"), **options)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "the bucket has no such object", name) from None
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise ValueError("a range that the object does not have") from None
            raise self._unreachable(name, error) from None
        except Exception as error:  # botocore's have no common base but this
            raise self._unreachable(name, error) from None

    def _unreachable(self, name: str, error: Exception) -> CacheUnreachableError:
        return CacheUnreachableError(
            f"{self.path(name)} cannot be had: {type(error).__name__}: {str(error)[:300]}",
            hint="look at the address, AWS' keys and the network, then run the same again",
        )
