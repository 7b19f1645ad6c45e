"""A client that shares no code with the official one: Hugging Face's InferenceClient, with its own event parser."""

import pytest
from default_pack import CHAT
from huggingface_hub import InferenceClient

from live import Started

pytestmark = pytest.mark.model


@pytest.fixture
def client(model_server: Started) -> InferenceClient:
    return InferenceClient(base_url=model_server.base_url, api_key=model_server.key)


def test_it_chats(client: InferenceClient) -> None:
    answer = client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "Say hi."}], max_tokens=12
    )
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens <= 12


def test_it_streams(client: InferenceClient) -> None:
    chunks = client.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "Say hi."}], max_tokens=12, stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
