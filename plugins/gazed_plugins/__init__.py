"""Everything optional: plugins, each run in a process of its own."""
