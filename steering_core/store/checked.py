"""Checked files: what this process has looked at before a query reads it, so that no foreign file passes for rows."""

from collections.abc import Iterable

from steering_core.store.folder import Folder
from steering_core.store.footers import suspect
from steering_core.store.wholeness import fault_in, pin_again, set_aside


class CheckedFiles:
    """The files of a folder's tables that were seen to be theirs. Safe to use from several threads.

    A file never changes under its name, so its footer is looked at once, in half a millisecond. One that looks wrong is
    read whole, and set aside where it is wrong indeed, as `steer store verify` would.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._seen: set[str] = set()

    def wrote(self, name: str) -> None:
        """Note a file that this process has written."""
        self._seen.add(name)

    def check(self, tables: Iterable[str]) -> None:
        """Set aside the files of those tables that are not theirs, with a warning each."""
        aside = [self._set_aside(table, name) for table in tables for name in self._unseen(table)]
        if any(aside):
            pin_again(self._folder)  # a schema may be among them

    def _unseen(self, table: str) -> list[str]:
        return [name for name in self._folder.names(table) if name not in self._seen]

    def _set_aside(self, table: str, name: str) -> bool:
        if suspect(self._folder, table, name) and (reason := fault_in(self._folder, table, name)):
            set_aside(self._folder, name, reason)
            return True
        self._seen.add(name)
        return False
