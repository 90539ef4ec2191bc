"""The sinks, and how a stream finds out what it was given. The public names are in `streamkit.sinks`."""
