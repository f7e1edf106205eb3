"""The only door to storage: what lies where, what is written, who may write, and how it is read."""
