"""Folders of pictures on more processes than one: of this machine, or of a Ray cluster.

The owner's process loads and encrypts pictures, keeps the secret key to itself, and decrypts. Workers evaluate: they learn
the ciphertexts, the evaluation keys and the program, whose weights are in it; never a pixel, a result or a secret key. The
secret key is made anew for every run and is never written anywhere.
"""

from __future__ import annotations

from protocols.batch.driver import Totals, pictures_in, run_batch
from protocols.batch.engines import BatchEngine, BatchError, Evaluated, Pending, Work
from protocols.batch.journal import Journal, Line, Subject
from protocols.batch.local import LocalEngine
from protocols.batch.ray_cluster import RayEngine

__all__ = [
    "BatchEngine",
    "BatchError",
    "Evaluated",
    "Journal",
    "Line",
    "LocalEngine",
    "Pending",
    "RayEngine",
    "Subject",
    "Totals",
    "Work",
    "pictures_in",
    "run_batch",
]
