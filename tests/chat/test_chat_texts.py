"""Text completions: their own log-probabilities, and what their bodies may ask."""

import pytest

from dayspring.chat import reading
from dayspring.chat.bodies import ChatCompletionBody, CompletionBody
from dayspring.chat.texts import TextAnswer, text_chunk
from dayspring.contracts.events import ChoiceEnd, TextDelta, TokenLogprob
from dayspring.core.errors import Malformed, UnsupportedParameter

USER = {"role": "user", "content": "hi"}


def completion(**fields: object) -> CompletionBody:
    return CompletionBody.model_validate({"model": "m", "prompt": "p", **fields})


def deltas() -> list[TextDelta]:
    pieces = (("ab", -0.5), ("c", -1.0), ("def", -2.0))
    return [TextDelta(text, logprobs=(TokenLogprob(text, score),)) for text, score in pieces]


def test_the_chunks_log_probabilities_joined_are_the_whole_answers() -> None:
    answer, offset = TextAnswer(), 0
    joined: dict[str, list[object]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for delta in deltas():
        answer.add(delta)
        lists = text_chunk({}, delta, offset)["choices"][0]["logprobs"]
        for name, values in lists.items():
            joined[name] += values
        offset += len(delta.text)
    answer.add(ChoiceEnd("stop"))
    assert answer.choice(0)["logprobs"] == joined
    assert joined["text_offset"] == [0, 2, 3]


def test_without_a_maximum_a_completion_has_sixteen_tokens() -> None:
    assert reading.completion_task(completion(), speaks_openai=False).sampling.max_tokens == 16


def test_no_tokens_at_all_can_only_be_asked_with_the_prompt() -> None:
    assert reading.completion_task(completion(max_tokens=0, echo=True), speaks_openai=False).sampling.max_tokens == 0
    with pytest.raises(Malformed) as refused:
        reading.completion_task(completion(max_tokens=0), speaks_openai=False)
    assert refused.value.param == "max_tokens"


def test_more_answers_than_a_request_may_have_are_refused() -> None:
    with pytest.raises(Malformed):
        reading.completion_task(completion(prompt=["p"] * 100, n=16), speaks_openai=False)


@pytest.mark.parametrize("stream", [None, False])
def test_options_of_a_stream_need_a_stream(stream: bool | None) -> None:
    options = {"stream": stream, "stream_options": {"include_usage": True}}
    chat = ChatCompletionBody.model_validate({"model": "m", "messages": [USER], **options})
    with pytest.raises(Malformed) as refused:
        reading.chat_task(chat, speaks_openai=True)
    assert refused.value.param == "stream_options"
    with pytest.raises(Malformed):
        reading.completion_task(completion(**options), speaks_openai=False)


def test_a_refused_name_of_any_length_is_repeated_shortly() -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        reading.completion_task(completion(**{"x" * 5000: 1}), speaks_openai=False)
    assert len(refused.value.message) < 300
