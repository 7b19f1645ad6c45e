"""Rewrites the README's table of figures, between its two markers, from `dev/benchmarks/*.json`.

A benchmark that was not run has no row; nothing is written by hand between the markers.
"""

import json
from typing import Any

from dev.bench.record import FOLDER, ROOT

__all__ = ["main", "table"]

BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise SystemExit(f"README.md lacks the markers {BEGIN} and {END}. Put them where the figures belong.")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    readme.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")
    print("wrote the figures of README.md")


def table() -> str:
    """The figures as Markdown."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
    rows = [
        *(_gateway(found["gateway"]) if "gateway" in found else ()),
        *(_chat(found["chat"]) if "chat" in found else ()),
        *(_schemas(found["schemas"]) if "schemas" in found else ()),
        *(_start(found["start"]) if "start" in found else ()),
    ]
    if not rows:
        return "No figures yet: run `make bench`."
    lines = ["| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)]
    made = [content for name, content in found.items() if name in {"gateway", "chat", "schemas", "start"}]
    machines = {f"{one['machine']['cores']} cores of {one['machine']['processor']}" for one in made}
    commits = {one["commit"][:12] for one in made}
    lines += ["", f"Measured by `make bench` on {' and '.join(sorted(machines))}, at {', '.join(sorted(commits))}."]
    return "\n".join(lines)


def _gateway(content: dict[str, Any]) -> list[tuple[str, str]]:
    medians, ratios = content["medians"], content["ratios"]
    rows = []
    for name, label in (("normal", "`synchronous=NORMAL`"), ("full", "`synchronous=FULL`")):
        if name not in medians:
            continue
        one = medians[name]
        rows.append(
            (
                f"Gateway, authenticated, reserved and settled for every request, 8 connections, {label}",
                f"{one['requests_s']:,.0f} requests/s, p50 {one['p50_ms']:.2f} ms, p99 {one['p99_ms']:.2f} ms",
            )
        )
        rows.append(
            (
                f"Latency it adds at one connection, {label}",
                f"p50 {one['added_p50_ms']:.2f} ms, p99 {one['added_p99_ms']:.2f} ms",
            )
        )
        if f"{name}_to_litellm" in ratios:
            theirs = medians["litellm"]["requests_s"]
            rows.append(
                (
                    f"Against LiteLLM's proxy {content['setup']['litellm']}, same stub and load, {label}",
                    f"{ratios[f'{name}_to_litellm']:.1f} times its {theirs:,.0f} requests/s",
                )
            )
    return rows


def _chat(content: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for streams, one in content["medians"].items():
        speed = f"{one['dayspring_tokens_s']:.0f} tokens/s, {one['ratio']:.3f} of xllamacpp's own server"
        first = f"first token {one['added_first_token_ms']:+.1f} ms"
        what = f"Chat, {content['setup']['model']}, {streams} stream{'s' if streams != '1' else ''}"
        rows.append((what, f"{speed}; {first}"))
    return rows


def _schemas(content: dict[str, Any]) -> list[tuple[str, str]]:
    refused = ", ".join(f"{name} {count}" for name, count in content["refused_by_keyword"].items()) or "none"
    figure = (
        f"{content['stop_valid']} stopped and validate, {content['stop_invalid']} stopped and do not, "
        f"{content['length']} ran into the limit of {content['setup']['max_tokens']} tokens, "
        f"{content['refused']} refused by name ({refused})"
    )
    return [(f"JSON Schema: {content['schemas']} real schemas asked of the default model", figure)]


def _start(content: dict[str, Any]) -> list[tuple[str, str]]:
    one = content["medians"]
    return [
        (
            "Fresh clone, empty home: `make serve` to the first token",
            f"{one['make_serve_to_first_token_s']:.0f} s, {one['ratio_to_plain']:.2f} times a plain install and copy",
        ),
        (
            "Packages downloaded, environment installed, data folder",
            ", ".join(
                f"{one[name]:.0f} MB" for name in ("packages_downloaded_mb", "environment_installed_mb", "data_mb")
            ),
        ),
        (
            "Second start to ready; idle server process",
            f"{one['second_start_to_ready_s']:.1f} s; {one['idle_server_mb']:.0f} MB",
        ),
    ]


if __name__ == "__main__":
    main()
