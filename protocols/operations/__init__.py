"""What an operator sees of a running process: audit log, metrics, structured logs, health.

`Observer` is what servers call. `AuditLog` and `Metrics` are what it writes to.
"""

from protocols.operations.audit import AuditError, AuditLog, Record, Summary
from protocols.operations.metrics import Metrics
from protocols.operations.observer import Observer

__all__ = ["AuditError", "AuditLog", "Metrics", "Observer", "Record", "Summary"]
