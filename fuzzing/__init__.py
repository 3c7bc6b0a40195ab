"""Every decoder of bytes from a file or a wire, fed with damaged ones.

`python -m fuzzing` runs campaigns; `tests/fuzz` feeds a few hundred inputs to each decoder on every change;
`fuzzing/atheris_harness.py` lets libFuzzer look for new paths.
"""

from fuzzing.campaign import Report, run_campaign
from fuzzing.targets import Target, find_target, target_names, targets

__all__ = ["Report", "Target", "find_target", "run_campaign", "target_names", "targets"]
