"""Conventions of the code that no linter in use here checks."""

import ast

from house_tree import Function, Module, is_worker_side, package


def _unannotated(function: Function) -> list[str]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    names = [a.arg for a in every if a is not None and a.annotation is None and a.arg not in {"self", "cls", "_cls"}]
    return names + ([] if function.returns else ["return"])


def test_every_function_is_annotated() -> None:
    functions = [(module, function) for module in package() for function in module.functions()]
    assert len(functions) > 100
    wrong = {
        f"{module.where}:{function.lineno} {function.name}": missing
        for module, function in functions
        if (missing := _unannotated(function))
    }
    assert not wrong, wrong


def test_every_module_says_what_it_is() -> None:
    """An empty `__init__.py` excepted."""
    wrong = [module.where for module in package() if module.lines and not ast.get_docstring(module.tree)]
    assert not wrong, wrong


def _public(module: Module) -> list[str] | None:
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


def _defined(module: Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def _order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest: the order ruff sorts names in."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def test_public_names_are_true_and_sorted() -> None:
    listed = {module.where: (module, names) for module in package() if (names := _public(module)) is not None}
    assert len(listed) >= 8
    unknown = {where: sorted(set(names) - _defined(module)) for where, (module, names) in listed.items()}
    assert not {where: names for where, names in unknown.items() if names}
    unsorted = [where for where, (_, names) in listed.items() if names != sorted(set(names), key=_order)]
    assert not unsorted, unsorted


def _to_stderr(call: ast.Call) -> bool:
    return any(keyword.arg == "file" and ast.unparse(keyword.value) == "sys.stderr" for keyword in call.keywords)


def test_nothing_prints_but_the_command_line() -> None:
    """A worker's standard error excepted, which is its log."""
    wrong = [
        f"{module.where}:{node.lineno}"
        for module in package()
        if module.room != "cli"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if not (_to_stderr(node) and is_worker_side(module.name))
    ]
    assert not wrong, f"log it, or return it: {wrong}"


def test_nothing_is_left_to_do() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    wrong = [
        f"{module.where}:{number}"
        for module in package()
        for number, line in enumerate(module.path.read_text(encoding="utf-8").splitlines(), 1)
        if any(mark in line for mark in marks)
    ]
    assert not wrong, f"do it, or file it: {wrong}"


def test_every_setting_is_read_by_something() -> None:
    [settings] = [module for module in package() if module.where.endswith("core/settings.py")]
    [declared] = [node for node in settings.tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"]
    names = {
        field.target.id
        for field in declared.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }
    assert len(names) > 20
    read = {
        node.attr
        for module in package()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert not names - read, f"a setting that nothing reads promises what is not there: {sorted(names - read)}"
