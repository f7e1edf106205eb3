"""The card of a teacher that nobody ever loads."""

from cpsc_core.card import TeacherCard

__all__ = ["CARD"]

CARD = TeacherCard(
    key="k",
    arch="resnet20",
    num_classes=10,
    sha256="a" * 64,
    accuracy=0.99,
    test_accuracy=0.98,
    data="digits",
    data_fingerprint="f" * 64,
    splits={"val": {"images": 7, "rows_sha256": "r"}},
    mean=(0.3,),
    std=(0.3,),
    training=None,
    probe_share=1.0,
    versions={},
)
