"""Data sets: held-out images to score a student on, and training images for teachers only."""
