"""The default models' names, and a schema that their answers are held to."""

__all__ = ["CHAT", "EMBEDDING", "PERSON"]

CHAT = "smollm2-135m-instruct"
EMBEDDING = "all-minilm-l6-v2"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
