"""Output files of commands."""

from __future__ import annotations

import pytest

from qos_async.cli.files import OutputError, whole_file


@pytest.mark.fault("F39")
def test_two_commands_that_write_the_same_file_at_once_do_not_mix(tmp_path):
    output = tmp_path / "same.html"
    with whole_file(output) as one:
        one.write(b"first " * 10)
        with whole_file(output) as other:
            other.write(b"second")
        assert output.read_bytes() == b"second"
        one.write(b"end")
    assert output.read_bytes() == b"first " * 10 + b"end"
    assert [*tmp_path.iterdir()] == [output]


def write_half(output):
    with whole_file(output) as file:
        file.write(b"half")
        raise OSError(28, "No space left on device")


def test_a_file_that_cannot_be_completed_leaves_no_draft(tmp_path):
    output = tmp_path / "same.html"
    output.write_bytes(b"before")
    with pytest.raises(OutputError, match="cannot write"):
        write_half(output)
    assert output.read_bytes() == b"before"
    assert [*tmp_path.iterdir()] == [output]
