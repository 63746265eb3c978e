"""What every importer promises: it never raises on foreign content, and its format has a name."""

from __future__ import annotations

import pytest

from knowledge.importers import NotARun, importers

FOREIGN = [None, 3, "text", [], [{"run_info": 1}], {}, {"peft_type": "LORA"}, {"train_info": {}}]


@pytest.mark.parametrize("importer", list(importers()), ids=lambda i: i.__name__)
class TestEveryImporter:
    def test_has_a_name_for_its_format(self, importer):
        assert importer.FORMAT.strip()

    @pytest.mark.parametrize("content", FOREIGN, ids=repr)
    def test_does_not_recognise_foreign_content(self, importer, content):
        assert importer.recognises(content) is False

    @pytest.mark.parametrize("content", FOREIGN, ids=repr)
    def test_refuses_foreign_content_with_a_reason(self, importer, content):
        with pytest.raises(NotARun, match=r"\w"):
            importer.read(content)


def test_only_one_importer_recognises_a_result_of_the_method_comparison():
    from tests.knowledge.suite_files import llm_run

    assert [i.FORMAT for i in importers() if i.recognises(llm_run())] == ["PEFT method comparison"]
