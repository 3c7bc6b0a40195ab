"""A deployment's processes: one TOML file each, which says what it is, and all that it needs to run."""

from protocols.deployment.config import ConfigError, load
from protocols.deployment.settings import Config

__all__ = ["Config", "ConfigError", "load"]
