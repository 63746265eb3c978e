import pytest

from knowledge.new_files import replace_file


def test_a_file_that_cannot_be_made_is_told_by_its_own_name(tmp_path):
    with pytest.raises(OSError) as refused:
        replace_file(tmp_path / "no such folder" / "config.yaml", b"content")
    assert refused.value.filename == str(tmp_path / "no such folder" / "config.yaml")


def test_a_file_takes_the_place_of_another_and_leaves_nothing_beside_it(tmp_path):
    for content in (b"one", b"two"):
        replace_file(tmp_path / "config.yaml", content)
        assert (tmp_path / "config.yaml").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
