"""Names for patients and examinations that tell nobody who they are, and are the same whenever the same patient is imported."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from functools import lru_cache

#: A secret that makes pseudonyms impossible to guess from a list of patient numbers, for who wants that.
KEY_VARIABLE = "PRATO_PSEUDONYM_KEY"
_LETTERS = 8


def pseudonym(*identifiers: str) -> str:
    """Eight hexadecimal digits for ``identifiers``; slow on purpose (about 50 ms), so that trying all numbers of a hospital is no fun."""
    return _derive("\0".join(identifiers), os.environ.get(KEY_VARIABLE, ""))


@lru_cache(1000)  # an import, and the listing of an archive, ask for the same ones again and again
def _derive(text: str, secret: str) -> str:
    salt = hashlib.sha256(b"prato-label pseudonym" + secret.encode()).digest()
    return hashlib.scrypt(text.encode(), salt=salt, n=2**14, r=8, p=1, dklen=_LETTERS // 2).hex()


def file_name(text: str) -> str:
    """``text`` as a part of a file name on any system, at most 48 letters; what had to be changed gets a mark, so that no two are one."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", plain).strip("-.")
    if plain == text and len(plain) <= 48:
        return plain
    mark = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:6]
    return f"{plain[:40].strip('-.')}-{mark}".lstrip("-")
