"""What this machine is like: prices of work, measured once and kept in the user's cache directory."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import msgspec

from protocols.advice.fitting import Prices
from protocols.advice.linear_maps import map_prices
from protocols.advice.links import cold_factor, link_prices, time_kernels
from protocols.private_files import replace_private
from secureimg.ckks import OperationTimes, Parameters, measure_operations
from secureimg.errors import KeyMaterialError

__all__ = ["Calibration", "cache_file", "calibrate", "machine_fingerprint", "read_calibration", "write_calibration"]

_VERSION: Final = 1
_LARGEST: Final = 1 << 20
_NAME: Final = "calibration.json"


class Calibration(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Prices of this machine, in seconds for one unit of each kind of work.

    Attributes
    ----------
    version : int
        Of this file's form and of what is measured.
    machine : str
        See `machine_fingerprint`.
    measured_at : float
        Seconds since 1970.
    maps, online, offline : dict of str to float
        Linear maps on shares; what parties do online; what dealer and parties do before. Empty until it is needed.
    cold : float
        Time of the first run on shares after the processes' start, over that of later ones.
    operations : dict of str to OperationTimes
        CKKS operations in milliseconds, by ring degree, number of primes and cores.
    """

    version: int
    machine: str
    measured_at: float
    maps: Prices = msgspec.field(default_factory=dict)
    online: Prices = msgspec.field(default_factory=dict)
    offline: Prices = msgspec.field(default_factory=dict)
    cold: float = 1.0
    operations: dict[str, OperationTimes] = msgspec.field(default_factory=dict)

    @classmethod
    def empty(cls) -> Calibration:
        """Return one of this machine without any measurement."""
        return cls(version=_VERSION, machine=machine_fingerprint(), measured_at=time.time())

    def for_shares(self) -> bool:
        """Measure what shares need, if it is not there; return whether it was measured now. Cost: 5 to 10 s."""
        if self.online:
            return False
        self.maps = map_prices()
        timed = time_kernels()
        self.online, self.offline = link_prices(timed, self.maps)
        self.cold = cold_factor(timed)
        return True

    def for_ckks(self, parameters: Parameters, cores: int) -> tuple[OperationTimes, bool]:
        """Return the times of CKKS operations, and whether they were measured now. Cost: see `measure_operations`."""
        name = f"{parameters.ring_degree}/{len(parameters.bits.data)}/{cores}"
        fresh = name not in self.operations
        if fresh:
            self.operations[name] = measure_operations(parameters, cores)
        return self.operations[name], fresh


def machine_fingerprint() -> str:
    """Return a hash of what decides how fast this machine computes: processor, cores, and the versions that run."""
    model = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        model = next((line for line in lines if line.startswith("model name")), model)
    facts = [model, platform.machine(), platform.python_version(), str(len(os.sched_getaffinity(0)))]
    for package in ("secureimg", "numpy", "numba", "tenseal"):
        try:
            facts.append(f"{package} {version(package)}")
        except PackageNotFoundError:  # run from a source tree
            facts.append(package)
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]


def cache_file() -> Path:
    """Return where the calibration is kept: `secureimg/calibration.json` in the user's cache directory."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(given) if given.startswith("/") else Path.home() / ".cache"
    return home / "secureimg" / _NAME


def read_calibration(path: Path) -> Calibration:
    """Return the calibration kept in a file; an empty one if there is none of this machine and version, or it is damaged."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        found = msgspec.json.decode(data if len(data) <= _LARGEST else b"", type=Calibration)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Calibration.empty()
    fits = found.version == _VERSION and found.machine == machine_fingerprint()
    return found if fits else Calibration.empty()


def write_calibration(path: Path, calibration: Calibration) -> bool:
    """Keep a calibration for the next time; return False if the directory cannot be written, which costs only time."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(path, msgspec.json.encode(calibration))
    except (OSError, KeyMaterialError):
        return False
    return True


def calibrate(calibration: Calibration | None = None) -> Calibration:
    """Return a calibration with everything that shares need, measured now unless it is in the one given."""
    found = calibration or Calibration.empty()
    found.for_shares()
    return found
