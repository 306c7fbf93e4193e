"""The main job on real input; `scripts/demo` runs it."""
