"""Files say their job, and long ones why they are one; no docstring only restates a name; what is taken is read."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for room in ("qvae", "backends") for path in (ROOT / room).rglob("*.py"))
MAX_LINES = 400
SMALL_WORDS = {
    "a", "all", "an", "and", "are", "as", "be", "by", "for", "from", "in", "is", "it", "its", "of", "on", "one", "see", "that",
    "the", "this", "to", "with",
}  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_its_job_and_why_it_is_long(path):
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert docstring, "it has no docstring: its first line says its job"
    lines = text.count("\n")
    if lines > MAX_LINES:
        reason = re.search(r"Longer than 400 lines because \w+", docstring)
        assert reason, f"{lines} lines: split it by job, or say in its docstring: Longer than 400 lines because ..."


def test_no_docstring_only_restates_a_name():
    assert list(restating("class Box:\n  def open_lid(self):\n    'Open the lid of this box.'")) == ["open_lid"]
    assert not list(restating("class Box:\n  def open_lid(self):\n    'Open the lid, which must be shut.'"))
    found = [f"{path.relative_to(ROOT)}: {name}" for path in FILES for name in restating(path.read_text(encoding="utf-8"))]
    assert not found, "say what the name doesn't, or leave the docstring out"


def restating(text):
    """Functions and classes whose docstrings have no word that isn't in their names or their class's."""

    def visit(node, above):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                names = above | stems(child.name)
                docstring = ast.get_docstring(child)
                if docstring and stems(docstring) <= names:
                    yield child.name
                yield from visit(child, names if isinstance(child, ast.ClassDef) else above)

    return visit(ast.parse(text), set())


def stems(text):
    words = (word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text))
    return {re.sub(r"(ing|ed|es|s|e)$", "", word) for word in words if word not in SMALL_WORDS}


# What nothing reads ---------------------------------------------------------------------------------------------------

GIVEN_BY_OTHERS = """
applications/denoise.py observe: part; applications/interpolate.py _of_reals: width
applications/super_resolve.py observe: part; applications/transformer.py LatentEmbedding: _n_features_out
applications/transformer.py fit: y; circuits/gradients/shadows.py executions: circuit
circuits/gradients/shadows.py shots_in_words: executor; circuits/gradients/shot_budget.py shots_in_words: executor
circuits/gradients/spsa.py executions: circuit; cli/main.py _options: version; cluster.py close: now
coding/bits_back.py _pop: shift; coding/bits_back.py _push: shift; coding/bits_back.py answer: where threshold
data/kinds.py _count_scale: is_image; dwave.py price: hamiltonian; dwave_recording.py rewind: spent
evaluation/distances.py samples: generator; exact.py _moments: num_samples; gibbs.py _fit: copies
gibbs.py _sweep: hamiltonian; ising/fused.py _read_row_of: row scale sums; ising/fused.py of_numbers: scale
ising/tape.py __torch_dispatch__: types
measuring/problems.py make: options; measuring/training.py _keep_models: memory; models/autoencoder.py _smoothed: generator
models/fused.py _rounded_as: value; models/fused.py half: like; models/fused.py single: like
models/gaussian.py forward: relaxed; models/gaussian.py forward: relaxed generator
models/likelihoods/likelihood.py from_config: config; models/relaxation.py bit_mean: logits; progress.py work: name
statevector_states.py __call__: operand; statevector_states.py forward: inverse; statevector_states.py jvp: of_indices
statevector_states.py operand: by_row; statevector_states.py setup_context: output; statevector_states.py undone: operand
sweep.py stop_if_told: model figures; training/gradient_norms.py __exit__: error
training/optimizers/halves.py __exit__: error
training/interrupts.py remember: number frame; training/objective.py epoch_figures: clock; training/objective.py look: clock
training/objective.py settle: rows batch_size; training/objective.py validate: rows found clock
training/objectives/adversarial.py look: clock; training/objectives/gaussian.py gaussian_surrogate: exact
training/objectives/gaussian.py reconstruction_surrogate: exact; training/objectives/latent_game.py settle: batch_size
training/objectives/variational.py look: clock; trust.py needs_word: folder; trust.py needs_word: text folder
workers.py submit: place
"""
"""Parameters of signatures that a base class, a table of functions or another library gives, and what scikit-learn reads."""


def test_what_is_taken_is_read():
    """A parameter that a function doesn't read, or an attribute that nobody does, may be an option lost on its way."""
    assert list(unread(ast.parse("def f(seed, n, *, late, **rest):\n  'Of n.'\n  return n + seed"))) == ["f: late rest"]
    assert list(unread(ast.parse("def f(n):\n  def g(n):\n    return n\n  return g"))) == ["f: n"]
    assert not list(unread(ast.parse("class C:\n  def f(self, _, n):\n    'Later.'\n    raise NotImplementedError(f)")))
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
    attributes = {node.attr for tree in trees.values() for node in ast.walk(tree) if is_read(node, ast.Attribute)}
    found = {
        f"{path.relative_to(ROOT).as_posix().removeprefix('qvae/').removeprefix('backends/qvae_backends/')} {text}"
        for path, tree in trees.items()
        for text in (*unread(tree), *unread_attributes(tree, attributes))
    }
    assert found == {entry.strip() for line in GIVEN_BY_OTHERS.strip().splitlines() for entry in line.split(";")}


def is_read(node, kind):
    return isinstance(node, kind) and isinstance(node.ctx, ast.Load)


def unread(tree):
    """Functions with those parameters that their bodies don't read; a body that only raises needs none."""
    found = []

    def names_read(node):
        """Of a function or lambda within other code, those that aren't its own parameters."""
        inner = [names_read(child) for child in ast.iter_child_nodes(node)]
        names = set().union(*inner)
        if is_read(node, ast.Name):
            names.add(node.id)
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            given = node.args
            taken = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
            own = [argument.arg for argument in taken]
            if isinstance(node, ast.FunctionDef) and does_something(node):
                lost = [name for name in own if name not in names | {"self", "cls", "ctx"} and not name.startswith("_")]
                found.extend([f"{node.name}: {' '.join(lost)}"] if lost else [])
            defaults = [default for default in (*given.defaults, *given.kw_defaults) if default is not None]
            names = (names - set(own)).union(*map(names_in, defaults))
        return names

    names_read(tree)
    return found


def names_in(expression):
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}


def does_something(function):
    said = [s for s in function.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    return not all(isinstance(statement, ast.Raise | ast.Pass) for statement in said)


def unread_attributes(tree, read):
    """Classes with attributes that a method stores and nobody reads."""
    for found in ast.walk(tree):
        if isinstance(found, ast.ClassDef):
            stored = {node.attr for node in ast.walk(found) if isinstance(node, ast.Attribute) and is_stored_on_self(node)}
            if lost := sorted(stored - read):
                yield f"{found.name}: {' '.join(lost)}"


def is_stored_on_self(attribute):
    return isinstance(attribute.ctx, ast.Store) and isinstance(attribute.value, ast.Name) and attribute.value.id == "self"
