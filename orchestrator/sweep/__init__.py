"""One run of a sweep: its stages, what it shows meanwhile, and how it ends."""
