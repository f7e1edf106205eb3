"""Whether sweeps can run here: what is looked at before one is begun, and what to do where it fails."""
