"""OpenAI's response object and the smaller ones in it."""

from typing import Any

from dayspring.chat.responses.bodies import ResponseBody
from dayspring.contracts.events import Usage
from dayspring.core.errors import Busy, DayspringError, InsufficientQuota, InvalidRequest

__all__ = ["error_object", "response_head", "usage_object"]


def response_head(body: ResponseBody, model_id: str, identifier: str, created_at: int) -> dict[str, Any]:
    """The object before anything is made: what was asked for, as it was asked. None: the model's own default."""
    wanted = body.text.model_dump(exclude_none=True, by_alias=True) if body.text is not None else {}
    thinking = body.reasoning
    choice = body.tool_choice
    tools = [tool.model_dump() for tool in body.tools or ()]
    return {
        "id": identifier,
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "status": "queued" if body.background else "in_progress",
        "background": bool(body.background),
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "model": model_id,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {
            "effort": thinking.effort if thinking is not None else None,
            "summary": thinking.summary if thinking is not None else None,
        },
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.keeps,
        "temperature": body.temperature,
        "text": {"format": {"type": "text"}, **wanted},
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump() if choice is not None else "auto",
        "tools": tools,
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": body.truncation or "disabled",
        "usage": None,
        "user": body.user,
        "metadata": body.metadata or {},
    }


def usage_object(usage: Usage, *, reasoning_tokens: int) -> dict[str, Any]:
    """OpenAI's `usage` of a response."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def error_object(error: DayspringError) -> dict[str, Any]:
    """OpenAI's `error` of a response that failed: its code is one of OpenAI's, the message is ours."""
    code = "server_error"
    if isinstance(error, Busy | InsufficientQuota):
        code = "rate_limit_exceeded"
    elif isinstance(error, InvalidRequest):
        code = "invalid_prompt"
    return {"code": code, "message": error.message}
