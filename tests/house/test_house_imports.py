"""Who may import what, beyond the layers that import-linter holds: the roles of files, and the heavy packages."""

import ast
import re
import subprocess
import sys

from house_tree import Module, importers, is_worker_side, package, project

HEAVY = frozenset(
    [
        "torch",
        "torchvision",
        "torchaudio",
        "diffusers",
        "transformers",
        "onnxruntime",
        "xllamacpp",
        "gguf",
        "safetensors",
        "numpy",
        "scipy",
        "cv2",
        "PIL",
        "pycolmap",
        "gsplat",
        "ctranslate2",
        "faster_whisper",
        "tflite_runtime",
        "ai_edge_litert",
        "ray",
    ]
)
"""Only in a worker process, or a role named below."""

PLACES: dict[str, tuple[str, ...]] = {
    "fastapi": ("routes.py", "web", "server"),
    "starlette": ("routes.py", "web", "server"),
    "uvicorn": ("server",),
    "nicegui": ("page.py", "ui", "studio"),
    "dbos": ("steps.py", "jobs"),
    "typer": ("cli",),
    "rich": ("cli",),
    "pytest": ("testing",),
}
"""Package -> file names and rooms that may import it."""


def _top(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def _heavy_imports(module: Module) -> set[str]:
    return {_top(name) for name, _ in module.imports()} & HEAVY


def test_heavy_packages_are_imported_on_the_worker_side_only() -> None:
    heavy = {module.name: _heavy_imports(module) for module in package() if _heavy_imports(module)}
    assert heavy, "no module imports anything heavy: the list of heavy packages is out of date"
    wrong = {name: sorted(found) for name, found in heavy.items() if not is_worker_side(name)}
    assert not wrong, f"move these imports to a worker.py, or to a module that only a worker.py imports: {wrong}"


def test_worker_files_are_started_by_name_and_imported_by_no_one() -> None:
    workers = [module for module in package() if module.path.name == "worker.py"]
    assert workers
    wrong = {
        module.name: users
        for module in workers
        if (users := [user for user in importers()[module.name] if not is_worker_side(user)])
    }
    assert not wrong, f"a worker is started in its own process, by name: {wrong}"


def test_each_package_is_imported_only_where_its_role_says() -> None:
    wrong = [
        f"{module.where}:{line} imports {name}"
        for module in package()
        for name, line in module.imports()
        if (places := PLACES.get(_top(name)))
        and module.path.name not in places
        and not any(f".{place}." in f"{module.name}." for place in places)
    ]
    assert not wrong, wrong
    assert any(_top(name) == "fastapi" for module in package() for name, _ in module.imports())


def test_services_import_nothing_of_the_web() -> None:
    services = [module for module in package() if module.path.name == "service.py"]
    assert len(services) >= 3
    web = ("fastapi", "starlette", "uvicorn", "aiohttp.web", "dayspring.web", "dayspring.server")
    wrong = [
        f"{module.where}:{line} imports {name}"
        for module in services
        for name, line in module.imports()
        if name.startswith(web)
    ]
    assert not wrong, wrong


def test_every_third_party_import_is_a_declared_dependency() -> None:
    declared = [*project()["project"]["dependencies"]]
    for extra in project()["project"]["optional-dependencies"].values():
        declared += extra
    names = {re.split(r"[\[<>=;~! ]", entry)[0].lower().replace("-", "_") for entry in declared}
    # Packages whose types are the public face of one that is declared.
    faces = {"starlette", "pydantic_core", "multidict", "yarl", "argon2", "pil"}
    known = names | faces | {"dayspring", "pytest"} | set(sys.stdlib_module_names)
    wrong = [
        f"{module.where}:{line} imports {name}"
        for module in package()
        for name, line in module.imports()
        if _top(name).lower() not in known
    ]
    assert not wrong, f"add to pyproject.toml and docs/decisions/0002: {wrong}"


def test_no_first_party_import_stands_inside_a_function() -> None:
    wrong = [
        f"{module.where}:{node.lineno}"
        for module in package()
        for function in module.functions()
        for node in ast.walk(function)
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dayspring"))
        or (isinstance(node, ast.Import) and any(alias.name.startswith("dayspring") for alias in node.names))
    ]
    assert not wrong, f"a cycle is a fault of design; import these at the top: {wrong}"


def test_no_import_is_relative() -> None:
    wrong = [
        f"{module.where}:{node.lineno}"
        for module in package()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not wrong, wrong


def _loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return {_top(name) for name in ran.stdout.splitlines()[-1].split()}


def test_the_server_process_loads_nothing_heavy() -> None:
    loaded = _loaded_after("import dayspring.server.app")
    assert "fastapi" in loaded
    assert not loaded & HEAVY


def test_the_command_line_loads_nothing_heavy() -> None:
    loaded = _loaded_after("import dayspring.cli.main")
    assert "typer" in loaded
    assert not loaded & HEAVY
