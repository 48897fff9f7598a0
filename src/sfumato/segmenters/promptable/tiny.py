"""Promptable segmenters that are built in a moment, for tests and examples."""

from .phantom import PhantomPromptable

__all__ = ["PhantomPromptable"]
