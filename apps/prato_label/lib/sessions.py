"""Uploads kept for a while, on a disk where one may have been cut short."""

from __future__ import annotations

import time
from pathlib import Path

from monailabel.utils.sessions import SessionInfo, Sessions


class UploadSessions(Sessions):
    """MONAI Label's sessions. Its own stop the server from starting over one whose description was never written, or not to its end."""

    def get_session(self, session_id: str, update_ts: bool = True, fetch_cache: bool = True) -> SessionInfo | None:
        """The session, or None where there is none that can be used."""
        try:
            return super().get_session(session_id, update_ts, fetch_cache)
        except (ValueError, OSError, AttributeError):
            return None

    def remove_expired(self) -> int:
        """Remove what was not asked for within its time; what cannot be read, after the longest one."""
        count, now = 0, time.time()
        for folder in [path for path in Path(self.store_path).glob("*") if path.is_dir()]:
            info = self.get_session(folder.name, update_ts=False, fetch_cache=False)
            last, kept = (info.last_access_ts, info.expiry) if info else (folder.stat().st_mtime, self.expiry)
            if last + kept < now:
                self.remove_session(folder.name)
                count += 1
        return count
