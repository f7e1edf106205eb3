from hypothesis import given
from hypothesis import strategies as st

from cpsc_core.seeds import stream_seed

addresses = st.tuples(
    st.integers(0, 2**40), st.sampled_from(["generator", "student"]), st.integers(0, 999), st.integers(0, 999)
)


def test_a_stream_never_changes_between_versions() -> None:
    assert stream_seed(0, "generator", 0, 0) == 9843850904884195


@given(one=addresses, other=addresses)
def test_streams_are_equal_exactly_where_their_addresses_are(one: tuple, other: tuple) -> None:
    assert (stream_seed(*one) == stream_seed(*other)) == (one == other)
    assert 0 <= stream_seed(*one) < 2**56
