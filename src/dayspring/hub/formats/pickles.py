"""Telling a pickle, so that it can be refused. Nothing here unpickles: opcodes are only listed.

Protocols 2 to 5 start with an opcode and their number. Protocols 0 and 1 have no mark, so the opcodes of the first
bytes are walked; a text that happens to parse is taken for a pickle only if it builds an object and stops.
"""

import io
import pickletools

__all__ = ["REMEDY", "is_pickle"]

REMEDY = "Take the model as safetensors or GGUF: a pickle runs code when it is read, so it is never read here."
_BUILDERS = {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
_MAX_OPCODES = 4096


def is_pickle(head: bytes) -> bool:
    """Whether the first bytes of a file (64 KiB are plenty) are those of a pickle."""
    if len(head) >= 2 and head[0] == 0x80 and 2 <= head[1] <= 5:
        return True
    names = set()
    try:
        for count, (opcode, _, _) in enumerate(pickletools.genops(io.BytesIO(head[:65_536]))):
            names.add(opcode.name)
            if count > _MAX_OPCODES:
                break
    except (ValueError, KeyError, OverflowError, UnicodeError, EOFError, IndexError):
        return False
    return "STOP" in names and bool(names & _BUILDERS)
