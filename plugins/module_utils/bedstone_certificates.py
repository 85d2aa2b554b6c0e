"""Make keys and certificates on a server; keys never leave it.

A pair is DIRECTORY/NAME.key and NAME.crt. A renewal keeps the key, so that a program that reads
both always gets a pair that matches; only a key that is missing or broken is replaced. The state
file holds the hashes of the pairs known to match (no program runs for them again) and the units
that still have to read new files, which a killed run leaves for the next one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import bedstone_files as fs
    import bedstone_units as units
    from bedstone_run import ConvergeError, Runner
else:
    import ansible.module_utils.bedstone_files as fs
    import ansible.module_utils.bedstone_units as units
    from ansible.module_utils.bedstone_run import ConvergeError

DIRECTORY = "/etc/bedstone/tls"
STATE = "/var/lib/bedstone/certificates"
# Where containers find the trusted authorities (bedstone_control/names.py, CA_IN_CONTAINER).
IN_CONTAINER = "/run/bedstone/ca.crt"
KEY_MODE, CERTIFICATE_MODE = 0o640, 0o644
# The beginning of every P-256 public key in PEM (its type and curve, RFC 5480).
P256 = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"


@dataclasses.dataclass(frozen=True)
class Pair:
    """A key and a certificate as they should be owned, and the units that read them."""

    name: str
    owner: str
    group: str
    reload: list[str]

    @property
    def key(self) -> str:
        """Return where the key lies."""
        return f"{DIRECTORY}/{self.name}.key"

    @property
    def certificate(self) -> str:
        """Return where the certificate lies."""
        return f"{DIRECTORY}/{self.name}.crt"

    @property
    def new_key(self) -> str:
        """Return where a key waits for its first certificate."""
        return f"{STATE}/{self.name}.key"


@dataclasses.dataclass
class State:
    """The state that is stored between runs."""

    pairs: dict[str, str] = dataclasses.field(default_factory=dict)
    pending: list[str] = dataclasses.field(default_factory=list)


class Certificates:
    """The pairs of one server. `changed_paths`, `removed_paths`, `units` tell what was done."""

    def __init__(
        self, pairs: list[Pair], *, run: Runner, root: Path = Path("/"), check: bool = False
    ) -> None:
        """Take the wanted pairs.

        Args:
            pairs: the wanted pairs.
            run: runs a program on the server.
            root: `/`, or a directory that stands for it in tests.
            check: change nothing, only find out what would change.

        """
        self.pairs = {pair.name: pair for pair in pairs}
        self.run = run
        self.root = root
        self.check = check
        self.changed_paths: list[str] = []
        self.removed_paths: list[str] = []
        self.units: dict[str, list[str]] = {}
        self.state = self._load()

    def inspect(self) -> dict[str, Any]:
        """Inspect all pairs, correct their owners, and remove those no longer declared.

        Returns:
            By name, the present certificate (None when it is missing or without its key) and,
            if there is none, a request for one; and the units that still have to reload.

        Raises:
            ConvergeError: a key can't be made, an owner is unknown.

        """
        found: dict[str, Any] = {}
        for pair in self.pairs.values():
            sound = self._is_sound(pair)
            text = self._place(pair.certificate).read_text(errors="replace") if sound else None
            request = None if sound or self.check else self._request(pair)
            found[pair.name] = {"certificate": text, "request": request}
            for path, mode in ((pair.key, KEY_MODE), (pair.certificate, CERTIFICATE_MODE)):
                self._set_right(path, pair, mode)
        self._prune()
        self._store()
        return {"present": found, "pending": list(self.state.pending)}

    def distrusting(self, authority: str) -> list[str]:
        """Return the files of trusted authorities on this server that lack one.

        A container sees the file that was there when it started: its processes' view counts.

        Args:
            authority: its certificate, as PEM text.

        """
        seen: set[tuple[int, int]] = set()
        found = []
        containers = self._place("/proc").glob(f"[0-9]*/root{IN_CONTAINER}")
        for place in (self._place(f"{DIRECTORY}/ca.crt"), *sorted(containers)):
            try:
                status, text = place.stat(), place.read_text(errors="replace")
            except OSError:
                continue  # a new server, or a process that has ended
            if (status.st_dev, status.st_ino) not in seen and authority.strip() not in text:
                found.append(str(place))
            seen.add((status.st_dev, status.st_ino))
        return found

    def requests(self, names: list[str], fresh: list[str]) -> dict[str, str]:
        """Make requests for new certificates, by name.

        Args:
            names: the pairs' names.
            fresh: those of them that get a new key in place of the present one.

        Raises:
            ConvergeError: a request can't be made.

        """
        return {name: self._request(self.pairs[name], fresh=name in fresh) for name in names}

    def install(self, certificates: dict[str, str]) -> None:
        """Put certificates in place, with new keys where there are some, and reload their readers.

        Args:
            certificates: the PEM texts by the pairs' names; none finishes pending reloads.

        Raises:
            ConvergeError: a certificate isn't for its key, or a unit doesn't reload.

        """
        keys = {name: self._key_of(self.pairs[name], text) for name, text in certificates.items()}
        readers = [unit for name in certificates for unit in self.pairs[name].reload]
        self.state.pending = list(dict.fromkeys([*self.state.pending, *readers]))
        self._store()
        for name, text in certificates.items():
            self._put(self.pairs[name], text, keys[name])
        self._store()
        self._reload()

    # Pairs

    def _is_sound(self, pair: Pair) -> bool:
        """Return whether key and certificate are there and belong together."""
        key, certificate = self._place(pair.key), self._place(pair.certificate)
        if not key.is_file() or not certificate.is_file():
            return False
        digest = self._digest(pair)
        if self.state.pairs.get(pair.name) == digest:
            return True
        public = self._public_key(pair.key)
        sound = public is not None and public == self._certified_key(certificate)
        if sound:
            self.state.pairs[pair.name] = digest
        return sound

    def _digest(self, pair: Pair) -> str:
        both = self._place(pair.key).read_bytes() + self._place(pair.certificate).read_bytes()
        return hashlib.sha256(both).hexdigest()

    def _public_key(self, path: str) -> str | None:
        """Return the public half of a usable key, else None."""
        if not self._place(path).is_file():
            return None
        ended = self.run(["openssl", "pkey", "-in", str(self._place(path)), "-pubout"])
        usable = ended.code == 0 and P256 in ended.output.replace("\n", "")
        return ended.output.strip() if usable else None

    def _certified_key(self, place: Path) -> str | None:
        ended = self.run(["openssl", "x509", "-in", str(place), "-noout", "-pubkey"])
        return ended.output.strip() if ended.code == 0 else None

    def _usable_key(self, pair: Pair) -> str | None:
        """Return the path of the key that a new certificate is for, or None when there is none."""
        for path in (pair.key, pair.new_key):
            if self._public_key(path) is not None:
                return path
        return None

    def _request(self, pair: Pair, *, fresh: bool = False) -> str:
        path = (None if fresh else self._usable_key(pair)) or self._make_key(pair)
        place = str(self._place(path))
        subject = f"/CN={pair.name.rpartition('/')[2]}"  # of a request only its key is taken
        ended = self.run(["openssl", "req", "-new", "-key", place, "-subj", subject])
        if ended.code != 0:
            raise ConvergeError(f"No request could be made for {pair.name}: {ended.text()}")
        return ended.output

    def _make_key(self, pair: Pair) -> str:
        directory = self._place(STATE)
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        place = self._place(pair.new_key)
        place.parent.mkdir(exist_ok=True)
        place.unlink(missing_ok=True)
        # openssl makes the file readable for its owner alone, and so does the directory.
        kind = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        ended = self.run(["openssl", "genpkey", *kind, "-out", str(place)])
        if ended.code != 0:
            raise ConvergeError(f"No key could be made for {pair.name}: {ended.text()}")
        place.chmod(0o600)
        return pair.new_key

    def _key_of(self, pair: Pair, text: str) -> str:
        """Return the path of the key that a certificate is for: the present or the new one."""
        place = self._place(f"{STATE}/{pair.name}.crt")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        certified = self._certified_key(place)
        place.unlink()
        for path in (pair.key, pair.new_key):
            if certified is not None and self._public_key(path) == certified:
                return path
        raise ConvergeError(
            f"The new certificate for {pair.name} is not for this server's key. Was the key "
            "replaced concurrently? Run it again."
        )

    def _put(self, pair: Pair, text: str, key_path: str) -> None:
        ids = fs.ids_of(pair.owner, pair.group, path=pair.key, tolerate_unknown=False)
        fs.make_parents(self.root, pair.key)
        if key_path == pair.new_key:
            key = self._place(pair.new_key).read_bytes()
            self._write(pair, pair.key, key, KEY_MODE, ids)
        self._write(pair, pair.certificate, text.encode(), CERTIFICATE_MODE, ids)
        self._place(pair.new_key).unlink(missing_ok=True)
        self.state.pairs[pair.name] = self._digest(pair)

    def _write(self, pair: Pair, path: str, content: bytes, mode: int, ids: fs.Ids) -> None:
        wanted = fs.WantedFile(path, content, "", len(content), pair.owner, pair.group, mode)
        if differences := fs.file_differences(self.root, wanted, ids):
            fs.put_file(self.root, wanted, ids, differences, None)
            self.changed_paths.append(path)

    def _set_right(self, path: str, pair: Pair, mode: int) -> None:
        status = fs.status_of(self._place(path))
        if status is None:
            return
        ids = fs.ids_of(pair.owner, pair.group, path=path, tolerate_unknown=self.check)
        if fs.attribute_differences(status, mode, ids):
            self.changed_paths.append(path)
            if not self.check:
                os.chown(self._place(path), ids.uid, ids.gid)
                self._place(path).chmod(mode)

    def _prune(self) -> None:
        for name in sorted(set(self.state.pairs) - set(self.pairs)):
            pair = Pair(name, "root", "root", [])
            for path in (pair.certificate, pair.key):
                if self._place(path).is_file():
                    self.removed_paths.append(path)
                if not self.check:
                    fs.remove(self.root, path)
            if "/" in name and not self.check:
                for parent in (self._place(path).parent, self._place(f"{STATE}/{name}").parent):
                    with contextlib.suppress(OSError):  # not there, or not empty
                        parent.rmdir()
            del self.state.pairs[name]

    # Their readers

    def _reload(self) -> None:
        """Reload the units, which then read their new files; a stopped one reads them at start."""
        pending = list(self.state.pending)
        statuses = units.show(pending, self.run)
        for name in pending:
            status = statuses[name]
            if status.running:
                action = "reload" if status.can_reload else "restart"
                self.units.setdefault(action, []).append(name)
                units.act(action, name, self.run, str)
            self.state.pending.remove(name)
            self._store()
        touched = {name: action for action, names in self.units.items() for name in names}
        units.check_they_stay_up(touched, self.run, str)

    # The state file

    def _place(self, path: str) -> Path:
        return fs.below(self.root, path)

    def _load(self) -> State:
        try:
            stored = json.loads(self._place(f"{STATE}/state.json").read_text())
            return State(dict(stored["pairs"]), list(stored["pending"]))
        except FileNotFoundError:
            return State()
        except (ValueError, KeyError, TypeError) as error:
            raise ConvergeError(
                f"{STATE}/state.json can't be understood ({error}). Remove it: all pairs are then "
                "looked at anew."
            ) from error

    def _store(self) -> None:
        if self.check or self.state == self._load():
            return
        place = self._place(f"{STATE}/state.json")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.parent.chmod(0o700)
        temporary = place.with_suffix(".new")
        with temporary.open("w") as stream:
            json.dump(dataclasses.asdict(self.state), stream, indent=1, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(place)
        fs.sync_directory(place.parent)
