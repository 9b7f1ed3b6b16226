"""How the parts of a build are spread over a machine."""
