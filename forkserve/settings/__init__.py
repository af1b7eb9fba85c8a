"""Every setting, declared once, and read from four sources."""

from forkserve.settings.declared import Settings, declarations
from forkserve.settings.sources import Loaded, load_settings

__all__ = ["Loaded", "Settings", "declarations", "load_settings"]
