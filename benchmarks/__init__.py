"""What encrypted image computation costs, beside the clear and beside a peer: ``python -m benchmarks``."""
