"""How fast the viewer answers, and how much memory its server takes."""
