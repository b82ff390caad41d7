"""How Headrace is installed: manifests, rights, scripts, the image and the compose file."""
