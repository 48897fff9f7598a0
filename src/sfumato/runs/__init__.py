"""Commands as functions on folders: resumable, with whole outputs and a manifest."""
