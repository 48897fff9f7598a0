"""One folder per method; see `sfumato.registry`. Methods never import each other."""
