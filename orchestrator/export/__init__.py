"""What leaves a sweep for other programs: its student, or images that its generator makes.

child.py      work with torch, in a process of its own
student.py    a student as safetensors or ONNX, with its card
images.py     a synthetic data set
card.py       the README of an exported student
"""

from orchestrator.export.images import export_images
from orchestrator.export.student import export_student

__all__ = ["export_images", "export_student"]
