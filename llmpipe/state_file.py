"""States in files: whole or not at all, and known to be whole when they are read."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any


def save_state(state: Any, path: str | Path) -> None:
    """Write a state, or a list of them, as a JSON file with a checksum: whole, or not at all."""
    path = Path(path)
    text = json.dumps(state)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(json.dumps({"crc32": zlib.crc32(text.encode()), "state": text}))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_state(path: str | Path) -> Any:
    """What `save_state` wrote; ValueError naming a file that is cut, changed or of another kind."""
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    try:
        saved = json.loads(text)
        if zlib.crc32(saved["state"].encode()) != saved["crc32"]:
            raise ValueError("its checksum does not match")
        return json.loads(saved["state"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a whole state file ({type(error).__name__}: {error}): it was cut or "
            "changed, or save_state did not write it; take an older one, or start anew"
        ) from error
