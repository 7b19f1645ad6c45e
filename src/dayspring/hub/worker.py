"""Converts a model in a process of its own: one order as JSON on standard input, one answer on standard output.

What a library prints goes to standard error, so that the answer stands alone.
"""

import os
import sys
from pathlib import Path

import msgspec

from dayspring.core.errors import DayspringError, Malformed
from dayspring.hub.conversion.bert import write_bert
from dayspring.hub.conversion.bert_check import SENTENCES, check_bert
from dayspring.hub.conversion.bert_folder import BertFolder
from dayspring.hub.conversion.lora import BaseFacts, write_lora
from dayspring.hub.conversion.lora_check import PROBES, check_lora
from dayspring.hub.conversion.peft_folder import PeftFolder
from dayspring.hub.conversions import Conversion, ConversionOrder

__all__ = ["run_order"]


def run_order(order: ConversionOrder) -> Conversion:
    """Convert and check. The output is whole and checked, or an error is in the answer."""
    try:
        if order.kind not in _KINDS:
            raise Malformed(f"there is no conversion {order.kind!r} in this release")
        return _KINDS[order.kind](order)
    except DayspringError as error:
        return Conversion(error.code, error.message)


def _bert(order: ConversionOrder) -> Conversion:
    source = BertFolder(Path(order.folder))
    output = Path(order.output)
    write_bert(source, output, output.stem)
    return Conversion(worst_cosine=check_bert(source, output), sentences=len(SENTENCES))


def _lora(order: ConversionOrder) -> Conversion:
    source, base = PeftFolder(Path(order.folder)), BaseFacts(Path(order.base))
    output = Path(order.output)
    write_lora(source, base, output, output.stem)
    return Conversion(worst_cosine=check_lora(source, base, output), sentences=PROBES)


_KINDS = {"bert": _bert, "lora": _lora}


def main() -> None:
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with answer:
        answer.write(msgspec.json.encode(run_order(msgspec.json.decode(sys.stdin.buffer.read(), type=ConversionOrder))))
        answer.flush()
    # llama.cpp's threads have nothing to finish, and its teardown need not be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
