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
from dayspring.hub.conversions import Conversion, ConversionOrder

__all__ = ["run_order"]


def run_order(order: ConversionOrder) -> Conversion:
    """Convert and check. The output is whole and checked, or an error is in the answer."""
    try:
        if order.kind != "bert":
            raise Malformed(f"there is no conversion {order.kind!r} in this release")
        source = BertFolder(Path(order.folder))
        output = Path(order.output)
        write_bert(source, output, output.stem)
        return Conversion(worst_cosine=check_bert(source, output), sentences=len(SENTENCES))
    except DayspringError as error:
        return Conversion(error.code, error.message)


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
