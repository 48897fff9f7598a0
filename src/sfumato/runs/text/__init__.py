"""Runs of text-guided segmentation: one file per command."""
