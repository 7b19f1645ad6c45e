"""Pages that people paste, and the sources they mean; and addresses that are none."""

import pytest

from dayspring.core.errors import Malformed
from dayspring.core.settings import Settings
from dayspring.hub.sources.address import parse_address
from dayspring.hub.sources.pasted import source_of_page


@pytest.mark.parametrize(
    ("pasted", "source"),
    [
        ("https://huggingface.co/owner/name", "hf:owner/name"),
        ("https://huggingface.co/owner/name/tree/main", "hf:owner/name@main"),
        ("https://huggingface.co/owner/name/blob/main/q/m.gguf", "hf:owner/name@main#q/m.gguf"),
        ("https://huggingface.co/owner/name/resolve/v1/m.gguf?download=true", "hf:owner/name@v1#m.gguf"),
        ("https://hf-mirror.example/owner/name", "hf:owner/name"),
        ("https://www.modelscope.cn/models/owner/name", "modelscope:owner/name"),
        ("https://modelscope.cn/models/owner/name/summary", "modelscope:owner/name"),
        ("https://modelscope.cn/models/owner/name/file/view/master/a/m.gguf", "modelscope:owner/name@master#a/m.gguf"),
        ("https://modelscope.cn/models/owner/name/resolve/master/m.gguf", "modelscope:owner/name@master#m.gguf"),
        ("https://civitai.com/models/7/fine-model?modelVersionId=42", "civitai:42"),
        ("https://civitai.com/models/7/fine-model", "civitai:models/7"),
        ("https://civitai.com/api/download/models/42?type=Model", "civitai:42"),
        ("https://example.org/models/7?modelVersionId=42", "https://example.org/models/7?modelVersionId=42"),
        ("https://huggingface.co.evil.example/owner/name", "https://huggingface.co.evil.example/owner/name"),
        ("https://huggingface.co/docs", "https://huggingface.co/docs"),
        ("hf:owner/name", "hf:owner/name"),
    ],
)
def test_a_page_becomes_the_source_it_means(pasted: str, source: str) -> None:
    assert source_of_page(pasted, Settings(hf_endpoint="https://hf-mirror.example")) == source


@pytest.mark.parametrize(
    "wrong",
    [
        "npm:left", "npm:left@latest", "npm:../x@1.0.0", "npm:@a@1.0.0", "npm:Upper@1.0.0", "npm:a@1.0.0/../x",
        "modelscope:name", "modelscope:a/../b", "modelscope:a/b@..", "civitai:0", "civitai:x", "civitai:1/2",
        "civitai:models/", "civitai:-1", "bundle:",
    ],
)  # fmt: skip
def test_an_address_with_a_fault_is_malformed(wrong: str) -> None:
    with pytest.raises(Malformed, match="write"):
        parse_address(wrong)
