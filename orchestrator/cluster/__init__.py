"""The machines that trials run on: Ray started here or joined, who may run trials, and what fits on them."""
