"""The entries of HAProxy's maps, by whom each is there for. Pure."""

from collections.abc import Hashable, Mapping
from pathlib import Path

from conch.frontdoor.commands import map_commands
from conch.frontdoor.public import MAPS

Entries = Mapping[str, Mapping[str, str]]
"""By map, its entries."""


class Tables:
    """What was told of all maps. Two owners never have one entry."""

    def __init__(self) -> None:
        self._by_owner: dict[Hashable, Entries] = {}

    def put(self, owner: Hashable, entries: Entries, files: Mapping[str, Path]) -> list[str]:
        """Take over an owner's entries; return the commands that tell HAProxy what changed."""
        old = self._by_owner.get(owner, {})
        if any(entries.values()):
            self._by_owner[owner] = entries
        else:
            self._by_owner.pop(owner, None)
        names = [m for m in MAPS if m in old or m in entries]
        return [
            command
            for name in names
            for command in map_commands(str(files[name]), old.get(name, {}), entries.get(name, {}))
        ]

    def owners(self) -> set[Hashable]:
        """Return who has entries."""
        return set(self._by_owner)

    def text(self, name: str) -> str:
        """Return a map as a file holds it."""
        lines = (
            f"{key} {value}"
            for entries in self._by_owner.values()
            for key, value in entries.get(name, {}).items()
        )
        return "\n".join(sorted(lines)) + "\n"
