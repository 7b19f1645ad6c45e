"""`python -m dev.bench [NAME [OPTIONS]]`: one benchmark with its options, or all with their defaults; then the README.

What each measures stands in its module. Long ones are for a quiet machine: two things measured at once are two figures
of neither.
"""

import sys

from dev.bench import chat, gateway, report, schemas, servers, start

BENCHMARKS = {"gateway": gateway.main, "chat": chat.main, "schemas": schemas.main, "start": start.main}
"""Run by default, in this order."""

BY_NAME = {**BENCHMARKS, "servers": servers.main}


def main() -> None:
    name, *options = sys.argv[1:] or [""]
    if name == "report":
        report.main()
        return
    if name and name not in BY_NAME:
        raise SystemExit(f"There is no benchmark {name!r}. Choose one of: {', '.join(BY_NAME)}, report.")
    for title, benchmark in BY_NAME.items() if name else BENCHMARKS.items():
        if name in ("", title):
            print(f"== {title}")
            benchmark(options)
    report.main()


if __name__ == "__main__":
    main()
