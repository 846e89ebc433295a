"""The bundled recipes, as YAML: `unigrad train NAME`."""
