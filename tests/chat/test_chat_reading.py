"""From a body to a task: nothing is dropped in silence."""

import pytest
from pydantic import ValidationError

from dayspring.chat import reading
from dayspring.chat.bodies import ChatCompletionBody, CompletionBody, EmbeddingBody
from dayspring.core.errors import DayspringError, Malformed, UnsupportedParameter

USER = {"role": "user", "content": "hi"}


def chat(**fields: object) -> ChatCompletionBody:
    return ChatCompletionBody.model_validate({"model": "m", "messages": [USER], **fields})


def test_each_field_of_sampling_reaches_the_task() -> None:
    sent = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "frequency_penalty": 1.0, "presence_penalty": -1.0,
        "repeat_penalty": 1.1, "seed": 7, "logit_bias": {"3": -100.0},
    }  # fmt: skip
    task = reading.chat_task(chat(**sent, stop=["a", "b"], max_completion_tokens=9), speaks_openai=False)
    for name, value in sent.items():
        assert getattr(task.sampling, name) == value
    assert task.sampling.stop == ("a", "b")
    assert task.sampling.max_tokens == 9


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"audio": {"voice": "x"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": []}, "functions"),
        ({"verbosity": "low"}, "verbosity"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"an_unknown_field": 1}, "an_unknown_field"),
    ],
)
def test_what_a_local_model_cannot_do_is_refused_by_name(fields: dict[str, object], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        reading.chat_task(chat(**fields), speaks_openai=False)
    assert refused.value.param == param


def test_an_upstream_gets_the_fields_that_are_not_ours() -> None:
    task = reading.chat_task(chat(an_unknown_field=1, user="u", verbosity="low"), speaks_openai=True)
    assert task.extra == {"an_unknown_field": 1, "user": "u", "verbosity": "low"}


def test_a_picture_reaches_the_task_and_dispatch_asks_whether_the_model_sees() -> None:
    part = {"type": "image_url", "image_url": {"url": "x", "detail": "low"}}
    task = reading.chat_task(chat(messages=[{"role": "user", "content": [part]}]), speaks_openai=False)
    assert task.messages[0]["content"] == [part]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "input_audio"}]}, "messages.0.content"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages.0.content"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x", "zoom": 2}}]},
            "messages.0.content.image_url.zoom",
        ),
    ],
)
def test_a_part_that_no_engine_here_reads_is_refused_by_name(message: dict[str, object], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        reading.chat_task(chat(messages=[message]), speaks_openai=False)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user"}],
        [{"role": "tool", "content": "x"}],
    ],
)
def test_a_message_that_says_nothing_is_refused(messages: list[dict[str, object]]) -> None:
    with pytest.raises(Malformed):
        reading.chat_task(chat(messages=messages), speaks_openai=False)


@pytest.mark.parametrize(
    "fields",
    [{"messages": []}, {"n": 0}, {"temperature": 3}, {"top_logprobs": 21}, {"stop": [""]}, {"max_tokens": 0}],
)
def test_a_value_out_of_range_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        chat(**fields)


def test_both_names_of_the_maximum_are_refused() -> None:
    with pytest.raises(Malformed):
        reading.chat_task(chat(max_tokens=1, max_completion_tokens=2), speaks_openai=False)


@pytest.mark.parametrize(
    ("sent", "read"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3)))],
)
def test_the_four_spellings_of_an_input_are_one(sent: object, read: tuple[object, ...]) -> None:
    embedding = EmbeddingBody.model_validate({"model": "m", "input": sent})
    assert reading.embedding_task(embedding, speaks_openai=False).inputs == read
    completion = CompletionBody.model_validate({"model": "m", "prompt": sent})
    assert reading.completion_task(completion, speaks_openai=False).prompts == read


@pytest.mark.parametrize("sent", ["", [], [""], [[]], ["a", ""]])
def test_an_empty_input_is_refused(sent: object) -> None:
    with pytest.raises(DayspringError):
        reading.embedding_task(EmbeddingBody.model_validate({"model": "m", "input": sent}), speaks_openai=False)


def test_more_inputs_than_a_request_may_have_are_refused() -> None:
    body = EmbeddingBody.model_validate({"model": "m", "input": ["a"] * 2049})
    with pytest.raises(Malformed):
        reading.embedding_task(body, speaks_openai=False)
