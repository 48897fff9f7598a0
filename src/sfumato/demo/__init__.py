"""The demo: shipped pairs on public labelled images that come inside Python packages."""

from .data import DemoCase, hippocampi, nuclei

__all__ = ["DemoCase", "hippocampi", "nuclei"]
