"""Lists studies in the manifest of their folder, which somebody else may edit, or add to, in the meantime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from prato.data.atomic import write_bytes
from prato.data.studies.folder import MANIFEST_NAME, Manifest, Study, load_manifest, save_manifest
from prato.data.studies.label_records import LOCK_NAME


@contextmanager
def listed_first(folder: Path, source: str, entries: Mapping[str, Study]) -> Iterator[None]:
    """List ``entries`` in the manifest of ``folder`` before the block, which puts these studies in place; if it fails, the manifest becomes
    what it was.

    An import takes minutes, so that what is added to is the manifest as it is now, and nobody else adds to it until the block ends. Killed
    in between, it lists studies that are not there yet. Afterwards, studies would be there that it does not list: nobody would know which
    of them are one patient's, and who trains would split them.

    Args:
        folder: a studies folder that is there.
        source: where the studies come from, for a folder without a manifest.

    Raises:
        ManifestError: the manifest cannot be used.
        OSError: ``folder`` cannot be written to.
    """
    path = folder / MANIFEST_NAME
    with FileLock(folder / LOCK_NAME):
        before = path.read_bytes() if path.exists() else None
        manifest = load_manifest(folder) or Manifest(source=source)
        if manifest.add(entries):
            save_manifest(folder, manifest)
        try:
            yield
        except BaseException:
            if before is None:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != before:
                write_bytes(path, before)
            raise
