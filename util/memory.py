"""What a run leaves for the next by a key, in an SQLite file that may be deleted at any time.

Many threads, processes and machines may read and write at once. The journal is of the kind that works on network file
systems as well, transactions are short, and what was committed is there whatever becomes of the run. Nothing waits for
the disk: each entry has a checksum, so that what a power cut damages is noticed and forgotten.
"""

import logging
import sqlite3
import threading
import weakref
import zlib
from contextlib import contextmanager
from pathlib import Path

from util.errors import DissectionError, shorten
from util.files import DISK_FULL, alone, explained

log = logging.getLogger(__name__)

_LAYOUT = 2  # of the tables below; raise when they change
_PATIENCE_SECONDS = 120  # for others that write
_KEYS_AT_ONCE = 500  # of one question
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter of damaged names
_KEPT_OF_LIMIT = 15 / 16  # is left when the oldest go, so that they go rarely
_ROOM = 9 / 8  # of the limit is what a file may have on opening, so that one that is full is not rewritten each time
_PARTS = 64  # of the entries, of which one goes at a time


class Memory:
    """Entries by key, bytes both. To be closed, or used in a `with` block.

    path: of the file. version: a memory of another one is forgotten. otherwise: what happens then, for the log. limit:
    bytes that the file may have, about; beyond it the oldest entries go, and a file that is larger, as after the limit
    was lowered, is made smaller. Raises DissectionError where no file can be.
    """

    def __init__(self, path, version, otherwise, limit=None):
        self.path, self.otherwise, self.limit = Path(path), otherwise, limit
        self._version = version * 1000 + _LAYOUT
        self._local, self._open, self._lock = threading.local(), {}, threading.Lock()
        self._damaged, self._opened = False, None
        weakref.finalize(self, _close, self._open)
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            try:
                self._prepare()
            except _ERRORS as error:
                self._require_damage(error)
                self._replace(error)
            if self.limit:
                self._shrink()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Let go of the file, and delete it if it showed damage. To be called when no thread is at it any more."""
        try:
            if self._damaged:
                with self._alone():
                    if _number_of(self.path) == self._opened:  # else another run has put a new one there
                        self._delete()
        finally:
            self._disconnect()

    def read(self, keys):
        """{key: value} of those keys that are known and sound. keys: list of bytes."""
        if self._damaged:
            return {}
        found = {}
        with self._explained():
            try:
                for start in range(0, len(keys), _KEYS_AT_ONCE):
                    some = keys[start : start + _KEYS_AT_ONCE]
                    question = f"SELECT key, value, sum FROM entries WHERE key IN ({','.join('?' * len(some))})"
                    entries = self._connection().execute(question, some)
                    found |= {key: value for key, value, checksum in entries if checksum == self._checksum(key, value)}
            except _ERRORS as error:
                self._forget(error)
        return found

    def write(self, entries):
        """Add or replace entries, all or none. entries: {key: value}. Raises DissectionError when that cannot be."""
        if self._damaged or not entries:
            return
        rows = [(key, value, self._checksum(key, value)) for key, value in entries.items()]
        with self._explained():
            try:
                with self._transaction() as connection:
                    connection.executemany("INSERT OR REPLACE INTO entries (key, value, sum) VALUES (?, ?, ?)", rows)
                while self.limit and self._size() > self.limit:
                    self._drop_oldest()
            except _ERRORS as error:
                self._forget(error)

    def _size(self):
        """Bytes of the file that are in use."""
        return (self._told("page_count") - self._told("freelist_count")) * self._told("page_size")

    def _told(self, what):
        return self._connection().execute(f"PRAGMA {what}").fetchone()[0]

    def _shrink(self):
        """Give back what the file has beyond its limit, where that can be had at once."""
        if self._told("page_count") * self._told("page_size") <= self.limit * _ROOM:
            return
        try:
            self._told("busy_timeout = 0")
            self._drop_oldest()
            self._connection().execute("VACUUM")
        except sqlite3.OperationalError as error:  # others are at it, or there is no room for a copy
            log.info("%s stays larger than it should be for now (%s)", self.path, error)
        except _ERRORS as error:
            self._forget(error)
        finally:
            self._told(f"busy_timeout = {1000 * _PATIENCE_SECONDS}")

    def _drop_oldest(self):
        while self._size() > self.limit * _KEPT_OF_LIMIT:
            with self._transaction() as connection:
                first, last = connection.execute("SELECT min(number), max(number) FROM entries").fetchone()
                if first is None:
                    return
                connection.execute("DELETE FROM entries WHERE number <= ?", [first + (last - first) // _PARTS])

    # ------------------------------------------------------------------------------------------------------- the file

    def _connection(self):
        """This thread's own connection."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            opened = self._opened or _number_of(self.path)  # before, as another run may replace it meanwhile
            connection = sqlite3.connect(
                self.path, timeout=_PATIENCE_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.text_factory = bytes
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            connection.execute("PRAGMA synchronous = OFF")
            self._local.connection = connection
            self._opened = opened or _number_of(self.path)
            with self._lock:
                for thread in [of for of in self._open if not of.is_alive()]:
                    self._open.pop(thread).close()
                self._open[threading.current_thread()] = connection
        return connection

    @contextmanager
    def _transaction(self):
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _prepare(self):
        """Make the table where there is none of this version."""
        if self._found_version() != self._version:
            with self._transaction() as connection:
                found = self._found_version()
                if found == self._version:  # another run was faster
                    return
                if found:
                    log.info("%s is of another version: %s", self.path, self.otherwise)
                connection.execute("DROP TABLE IF EXISTS entries")
                connection.execute(
                    "CREATE TABLE entries (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL, "
                    "sum INTEGER NOT NULL)"
                )
                connection.execute(f"PRAGMA user_version = {self._version}")
        self._connection().execute("SELECT number, key, value, sum FROM entries LIMIT 1").fetchall()

    def _found_version(self):
        return self._connection().execute("PRAGMA user_version").fetchone()[0]

    def _forget(self, error):
        """Go on without the file when it is damaged; raise anything else."""
        self._require_damage(error)
        log.info("%s cannot be used (%s): %s", self.path, shorten(str(error)), self.otherwise)
        self._damaged = True

    def _require_damage(self, error):
        code = getattr(error, "sqlite_errorcode", None)
        if isinstance(error, UnicodeDecodeError) or code == sqlite3.SQLITE_READONLY_DBMOVED:
            return
        other_table = code == sqlite3.SQLITE_ERROR and "no such" in str(error)
        if code is None or (code & 0xFF not in _DAMAGED and not other_table):
            raise error

    def _replace(self, error):
        """Put a new file in the place of one that cannot be opened, unless another run has done so."""
        self._disconnect()
        with self._alone():
            try:
                self._prepare()
                return
            except _ERRORS as found:
                self._require_damage(found)
            log.info("%s cannot be used (%s): %s", self.path, shorten(str(error)), self.otherwise)
            self._delete()
            self._prepare()

    def _alone(self):
        return alone(self.path, f"another run is making {self.path} anew: try again", timeout=_PATIENCE_SECONDS)

    def _delete(self):
        self._disconnect()
        with explained(self.path):
            for place in (self.path, self.path.with_name(f"{self.path.name}-journal")):
                place.unlink(missing_ok=True)

    def _disconnect(self):
        with self._lock:
            _close(self._open)
            self._local, self._opened = threading.local(), None

    def _checksum(self, key, value):
        """Begun with the version, so that what another version of the program wrote meanwhile is none of this one's."""
        sound = isinstance(key, bytes) and isinstance(value, bytes)  # a changed byte may make numbers of them
        return zlib.crc32(value, zlib.crc32(key, self._version)) if sound else None

    @contextmanager
    def _explained(self):
        try:
            yield
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            advice = DISK_FULL if full else error
            raise DissectionError(f"cannot write {self.path}: {advice}") from error


def _number_of(path):
    """What tells a file from one that takes its place while it is open, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _close(connections):
    while connections:
        connections.popitem()[1].close()
