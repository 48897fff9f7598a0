"""`sfumato difficulty`: every case of a data set scored, indexed, shown and filtered."""
