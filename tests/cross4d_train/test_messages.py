import ast
from pathlib import Path

import cross4d_train


def test_every_message_says_what_to_do_next():
    silent = [
        f"{path.name}:{node.lineno}"
        for path in Path(cross4d_train.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"SettingsError", "OutputError", "CheckpointError"}
        and "hint" not in {keyword.arg for keyword in node.keywords}
    ]
    assert silent == []
