"""Where the files of a store lie: a folder, a zip, a web server, a bucket."""

from cross4d_cache.store.storage.place import HINT, absent, is_remote, open_storage
from cross4d_cache.store.storage.source import Source
from cross4d_cache.store.storage.storage import Storage, StoredFile

__all__ = ["HINT", "Source", "Storage", "StoredFile", "absent", "is_remote", "open_storage"]
