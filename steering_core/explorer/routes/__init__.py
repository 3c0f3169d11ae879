"""The explorer's routes, one file a topic; `steering_core.explorer.app` mounts them."""
