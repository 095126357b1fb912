"""The linked viewer: maps, patterns and the learned space in one page, in a browser and in a notebook."""
