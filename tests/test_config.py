import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import yaml

from qvae.config.latent import LatentConfig
from qvae.config.load import dump_config, load_config, parse_assignments, parse_backend, shipped_configs
from qvae.config.paths import settled
from qvae.config.schema import Config
from qvae.errors import ConfigError

CONFIGS = resources.files("qvae") / "configs"


def keys_of(tree, above=()):
    for key, value in tree.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from keys_of(value, (*above, key))


def test_importing_is_quick_and_the_default_is_the_shipped_digits():
    assert load_config() == load_config("digits") == Config()
    code = "import sys, qvae.config.load; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_digits_spells_out_every_key():
    written = set(keys_of(yaml.safe_load((CONFIGS / "digits.yaml").read_text())))
    assert written == set(keys_of(Config().model_dump()))


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configurations_load_and_survive_a_round_trip(name, tmp_path):
    config = load_config(name)
    (tmp_path / "copy.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "copy.yaml") == config


def test_mnist_holds_only_what_differs():
    tree, default = yaml.safe_load((CONFIGS / "mnist.yaml").read_text()), Config().model_dump()
    for path in keys_of(tree):
        mine, theirs = tree, default
        for key in path:
            mine, theirs = mine[key], theirs.get(key)  # options of a sampler have no defaults here
        assert mine != theirs, path


def test_a_dump_keeps_every_value(tmp_path):
    config = load_config(
        {"model": {"latent": {"graph": "edges", "sizes": [3], "edges": [[0, 1], [1, 2]], "gamma": [0, 0.5, 1e-7]}}},
        [
            "sampler.options={sweeps: 5, names: [a, 'no', '1e-3'], deep: {x: null, y: true}}",
            "training.learning_rate=1e-30",
            "training.max_seconds=0.1",
            "generation.sampler={name: exact}",
        ],
    )
    (tmp_path / "dump.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "dump.yaml") == config
    assert list(yaml.safe_load(dump_config(config))) == list(Config.model_fields)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("2E5", 2e5), ("1.5e-3", 1.5e-3), ("-.5e+2", -50.0), ("3", 3), ("0.25", 0.25),
     ("[1e-3, 2]", [1e-3, 2]), ("null", None), ("true", True), ("abc", "abc"), ("'1e-3'", "1e-3"),
     ("1e", "1e"), ("e5", "e5"), ("a=b", "a=b")],
)  # fmt: skip
def test_values_of_overrides_are_yaml_in_which_exponents_are_numbers(text, value, tmp_path):
    found = load_config(None, [f"sampler.options.x={text}"]).sampler.options["x"]
    assert found == value
    assert type(found) is type(value)
    (tmp_path / "file.yaml").write_text(f"sampler: {{options: {{x: {text}}}}}")
    assert load_config(tmp_path / "file.yaml").sampler.options["x"] == value


def test_the_last_override_wins_and_merges_into_the_source():
    config = load_config(
        {"sampler": {"name": "dimod", "options": {"sweeps": 1, "reads": 2}}},
        ["sampler.options.sweeps=3", "sampler.options.sweeps=4", "generation.sampler.name=exact"],
    )
    assert config.sampler.options == {"sweeps": 4, "reads": 2}
    assert config.generation.sampler is not None
    assert config.generation.sampler.name == "exact"


def test_the_source_is_left_alone():
    source = {"training": {"epochs": 3}}
    assert load_config(source, ["training.epochs=4"]).training.epochs == 4
    assert source == {"training": {"epochs": 3}}


def test_options_of_a_sampler_from_the_command_line():
    assert parse_assignments(["sweeps=20", "a.b=[1e-3]", "a.c=null"]) == {"sweeps": 20, "a": {"b": [1e-3], "c": None}}
    with pytest.raises(ConfigError, match="key=value"):
        parse_assignments(["sweeps"])


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        # Names
        ("trainig.epochs=5", "trainig is no key of the configuration; did you mean 'training'"),
        ("training.epohcs=5", "training.epohcs is no key of the configuration; did you mean 'epochs'"),
        ("epochs=5", "epochs is no key of the configuration; did you mean 'training.epochs'"),
        ("generation.sampler.nme=exact", "generation.sampler.nme is no key of the configuration; did you mean 'name'"),
        ("model.latent.graph=chimaera", """model.latent.graph is "chimaera"; did you mean 'chimera'"""),
        ("model.kind=3", "model.kind is 3; Allowed: qvae"),
        ("data.name=mnits", "did you mean 'mnist'"),
        ("data.name=images.mat", "or a path that ends in .npy, .npz, .csv, .parquet or .txt, or a folder of images"),
        ("training.device=gpu", """training.device is "gpu"; it must be auto, cpu, cuda or cuda:N"""),
        ("training.device=cuda:x", "it must be auto, cpu, cuda or cuda:N"),
        # Types
        ("training.epochs='5'", """training.epochs is "5"; it must be a whole number ("""),
        ("training.epochs=5.0", "training.epochs is 5.0; it must be a whole number"),
        ("training.epochs=true", "training.epochs is true; it must be a whole number"),
        ("training.epochs=", "training.epochs is null; it must be a whole number"),
        ("training.tensorboard=1", "training.tensorboard is 1; it must be true or false"),
        ("training.max_seconds=soon", """training.max_seconds is "soon"; it must be a number or null"""),
        ("data.root=3", "data.root is 3; it must be a text or null"),
        ("model.latent.sizes=32", "model.latent.sizes is 32; it must be a list"),
        ("model.latent.sizes=[32, x]", """model.latent.sizes[1] is "x"; it must be a whole number"""),
        ("model.latent.gamma=much", """model.latent.gamma is "much"; it must be a number or a list of numbers"""),
        ("model.latent.gamma=[0, x]", """model.latent.gamma[1] is "x"; it must be a number ("""),
        ("sampler.options=[1]", "sampler.options is [1]; it must be keys with values"),
        ("training=5", "training is 5; it must be keys with values"),
        ("generation.sampler=3", "it must be keys with values or null"),
        ("training.epochs.more=5", "training.epochs is 200, which holds no keys"),
        ("sampler.options.day=2026-01-01", "sampler.options.day is a date"),
        # What doesn't go together
        ("model.latent.train_gamma=true", "the Q-ELBO can't train gamma"),
        # Ranges
        ("training.epochs=0", "training.epochs is 0; it must be 1 or more"),
        ("training.max_seconds=0", "training.max_seconds is 0; it must be more than 0"),
        ("training.average_decay=1", "training.average_decay is 1; it must be less than 1"),
        ("training.validation=0.7", "training.validation is 0.7; it must be 0.5 or less"),
        ("data.size=[5]", "data.size is [5]; it must hold 2 numbers ("),
        ("data.size=[5, 6, 7]", "data.size is [5, 6, 7]; it must hold 2 numbers ("),
        ("training.seed=-1", "training.seed is -1; it must be 0 or more"),
        ("training.seed=18446744073709551616", "it must be less than 9.22"),
        ("evaluation.log_z_temperatures=1", "it must be 2 or more"),
        ("model.latent.gamma=-1", "model.latent.gamma is -1; it must be 0 or more"),
        ("model.latent.gamma=[0, -1]", "model.latent.gamma[1] is -1; it must be 0 or more"),
        ("model.network.hidden=[0]", "model.network.hidden[0] is 0; it must be 1 or more"),
        ("training.learning_rate=.nan", "training.learning_rate is nan; it must be a finite number"),
        ("training.clip_norm=.inf", "training.clip_norm is inf; it must be a finite number"),
        ("sampler.options.x=[1, .nan]", "sampler.options.x.1 is nan; it must be a finite number"),
        # Keys that contradict each other
        ("model.latent.sizes=[64]", "model.latent.sizes is [64]; graph 'rbm' takes two numbers"),
        ("model.latent.graph=complete", "model.latent.sizes is [32, 32]; graph 'complete' takes one number"),
        ("model.latent.edges=[[0, 1]]", "model.latent.edges is given, but graph 'rbm' has its own"),
        ("model.latent.gamma=[1, 1]", "model.latent.gamma holds 2 numbers; give one number, or one for each of 64"),
        ("model.posterior.levels=65", "model.posterior.levels is 65; it must be at most 64"),
        ("generation.sampler.options.shots=5", "generation.sampler.name is missing"),
        # Form
        ("training.epochs", "isn't of the form key=value"),
        ("training..epochs=3", "isn't of the form key=value"),
        ("=3", "isn't of the form key=value"),
        ("training.epochs=[", "isn't valid YAML"),
        ("sampler.options={a: 1, a: 2}", "key 'a' stands there twice"),
    ],
)  # fmt: skip
def test_a_faulty_override_is_one_sentence_that_names_it(override, problem):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    message = str(caught.value)
    assert problem in message
    assert f"--set {override}" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("latent", "problem"),
    [
        ({"graph": "chimera", "sizes": [1, 1, 1, 1]}, "takes one to three numbers"),
        ({"graph": "pegasus", "sizes": [2, 2]}, "takes one number: [m]"),
        ({"graph": "pegasus", "sizes": [1]}, "a Pegasus graph begins at [2]"),
        ({"graph": "zephyr", "sizes": []}, "takes one or two numbers"),
        ({"graph": "edges", "sizes": [3], "edges": [[0, 3]]}, "edges[0] is [0, 3]; spins are numbered 0 to 2"),
        ({"graph": "edges", "sizes": [3], "edges": [[-1, 0]]}, "edges[0] is [-1, 0]; spins are numbered 0 to 2"),
        ({"graph": "edges", "sizes": [3], "edges": [[0, 1], [1, 0]]}, "edges[1] is [1, 0]; it must join two spins"),
        ({"graph": "edges", "sizes": [3], "edges": [[1, 1]]}, "edges[0] is [1, 1]; it must join two spins"),
        ({"graph": "edges", "sizes": [3], "edges": [[0, 1, 2]]}, "edges[0] is [0, 1, 2]; it must be a pair"),
        ({"graph": "edges", "sizes": [3], "edges": [[0]]}, "it must be a pair"),
        ({"graph": "edges", "sizes": [3], "edges": [5]}, "edges[0] is 5; it must be a pair"),
    ],
)
def test_latent_keys_that_contradict_each_other(latent, problem):
    with pytest.raises(ConfigError) as caught:
        load_config({"model": {"latent": latent}})
    assert str(caught.value).startswith("model.latent.")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("graph", "sizes"),
    [("rbm", [3, 4]), ("complete", [5]), ("edges", [6]), ("chimera", [2]), ("chimera", [1, 3]), ("chimera", [2, 1, 3]),
     ("pegasus", [2]), ("pegasus", [3]), ("zephyr", [1]), ("zephyr", [2, 3])],
)  # fmt: skip
def test_number_of_spins_is_that_of_the_graph(graph, sizes):
    from qvae.models.prior import make_graph

    latent = LatentConfig(graph=graph, sizes=sizes)
    assert latent.num_spins == make_graph(latent).num_spins


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:11"])
def test_devices(device):
    assert load_config(None, [f"training.device={device}"]).training.device == device


def test_every_fault_has_a_line_that_says_where_it_came_from(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("training: {epochs: 0, batch_sise: 3}\nmodel: {latent: {sizes: [1, 2]}}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file, ["training.chains=0", "model.latent.sizes=[1, 2, 3]"])
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert [f"(in {file})." in line for line in lines] == ["epochs" in line or "sise" in line for line in lines]
    assert any("training.chains is 0" in line and "(in --set training.chains=0)" in line for line in lines)
    assert any("graph 'rbm' takes" in line and "(in --set model.latent.sizes=[1, 2, 3])" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("training:\n  epochs: 3\n  epochs: 4\n", "line 3, column 3: key 'epochs' stands there twice"),
        ("training:\n  epochs: [3\n", "isn't valid YAML"),
        ("training:\n\tepochs: 3\n", "line 2, column 1"),
        ("data: !!python/object/apply:os.system [true]\n", "line 1, column 7: could not determine a constructor"),
        ("data: {name: 2026-99-99}\n", "isn't valid YAML"),
        ("a: \x00\n", "isn't valid YAML"),
        ("- digits\n", 'there is ["digits"] in'),
        ("digits\n", 'there is "digits" in'),
        ("training:\n", "training is null; it must be keys with values"),
        ("sampler: {options: &a {b: *a}}\n", "nested too deep or holds itself"),
    ],
)
def test_files_that_are_no_configuration(text, problem, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert problem in str(caught.value)
    assert str(file) in str(caught.value)


def test_an_empty_file_is_the_default(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "empty.yaml") == Config()


def test_a_file_wins_over_a_shipped_name_but_a_folder_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("training: {epochs: 7}")
    (tmp_path / "mnist").mkdir()
    assert load_config("digits").training.epochs == 7
    assert load_config(None).training.epochs == Config().training.epochs
    assert load_config("mnist").data.name == "mnist"


@pytest.mark.parametrize("source", ["digit", "digits.yml", Path("some/where.yaml"), "", "x" * 5000])
def test_a_source_that_is_not_there(source):
    names = "digits-vqgan, digits-vqgan-patch, digits-vqvae, mnist, "
    with pytest.raises(ConfigError, match=rf"there is no configuration .*{names}.*or a path"):
        load_config(source)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path / "x.yaml")


def test_exact_training_takes_one_level():
    with pytest.raises(ConfigError, match=r"model.posterior.levels is 2; training.prior_gradient: exact takes 1"):
        load_config("digits-quantum", ["model.posterior.levels=2"])


@pytest.mark.parametrize("value", ["/data/set #2", "#2", "/data/#2 # 3"])
def test_nothing_on_the_command_line_is_a_comment(value, tmp_path):
    assert load_config(None, [f"data.root={value}"]).data.root == value
    assert load_config(None, [f"data.root='{value}'"]).data.root == value
    (tmp_path / "file.yaml").write_text("data: {root: /data/set} # 2\n")
    assert load_config(tmp_path / "file.yaml").data.root == "/data/set"


@pytest.mark.parametrize(("value", "taken_for"), [("010", "8"), ("-010", "-8"), ("60:00", "3600"), ("1:30.5", "90.5")])
def test_numbers_that_yaml_reads_otherwise_than_people_are_refused(value, taken_for, tmp_path):
    (tmp_path / "file.yaml").write_text(f"training:\n  epochs: {value}\n")
    for arguments in ((tmp_path / "file.yaml",), (None, [f"training.epochs={value}"])):
        with pytest.raises(ConfigError, match=f"YAML takes {value} for {taken_for}; .* quotes"):
            load_config(*arguments)
    config = load_config(None, [f"data.root='{value}'"])
    (tmp_path / "dump.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "dump.yaml").data.root == value


def test_options_stay_with_the_sampler_that_they_were_written_for():
    keys = {"sampler": {"name": "gibbs", "options": {"sweeps": 20}}}
    assert load_config(keys, ["sampler.name=exact"]).sampler.options == {}
    assert load_config(keys, ["sampler.name=gibbs"]).sampler.options == {"sweeps": 20}
    assert load_config(keys, ["sampler.name=exact", "sampler.options.seed=3"]).sampler.options == {"seed": 3}
    unnamed = {"sampler": {"options": {"sweeps": 20}}}  # of the default, gibbs
    assert load_config(unnamed, ["sampler.name=exact"]).sampler.options == {}
    assert load_config(unnamed, ["sampler.name=gibbs"]).sampler.options == {"sweeps": 20}


def test_a_fault_is_told_of_the_override_that_was_last():
    with pytest.raises(ConfigError, match=r"training.epochs is 0.*\(in --set training.epochs=0\)"):
        load_config("digits", ["training.epochs=5", "training.seed=1", "training.epochs=0"])
    with pytest.raises(ConfigError, match=r"\(in --set training=\{epochs: -1\}\)"):
        load_config("digits", ["training.epochs=5", "training={epochs: -1}"])


def test_every_path_is_settled_where_the_user_is(tmp_path, monkeypatch):
    """Whichever section names it: data, files of backends, another run, weights."""
    monkeypatch.chdir(tmp_path)
    keys = {
        "data": {"name": "rows.npy", "root": "root"},
        "sampler": {"name": "dwave", "options": {"record": "a.json", "replay": "b.json"}},
        "generation": {"sampler": {"name": "dwave", "options": {"replay": "c.json"}}},
        "evaluation": {"inception_weights": "w.pth"},
    }
    config = settled(load_config(keys))
    options = config.sampler.options, config.generation.sampler.options
    found = [config.data.name, config.data.root, options[0]["record"], options[0]["replay"], options[1]["replay"]]
    files = ["rows.npy", "root", "a.json", "b.json", "c.json", "w.pth"]
    assert [*found, config.evaluation.inception_weights] == [str(tmp_path / file) for file in files]
    keys = {
        "model": {"kind": "vqgan", "gan": {"autoencoder": "run"}},
        "executor": {"name": "qiskit", "options": {"record": "d.json"}},
    }
    config = settled(load_config(keys))
    assert config.model.gan.autoencoder == str(tmp_path / "run")
    assert config.executor.options["record"] == str(tmp_path / "d.json")


def test_latents_without_a_circuit_may_be_more_than_a_circuit_has_qubits():
    def qubits(*settings):
        return load_config("digits-vqvae", [f"model.circuit.{text}" for text in settings]).model.circuit.qubits

    assert qubits("arm=gaussian", "qubits=256") == 256
    for most, *settings in ((30,), (256, "arm=gaussian"), (30, "arm=gaussian", "encoding=amplitude")):
        assert qubits(f"qubits={most}", *settings) == most
        with pytest.raises(ConfigError, match=f"model.circuit.qubits is {most + 1}; it must be {most} or less"):
            qubits(f"qubits={most + 1}", *settings)


@pytest.mark.parametrize(("penalty", "weight"), [("r1", 3.0), ("gradient", 1.0)])
def test_a_penalty_of_a_shipped_game_has_the_weight_that_goes_with_it(penalty, weight):
    for name in ("digits-vqgan", "mnist-vqgan"):
        config = load_config(name, [f"model.critic.penalty={penalty}"])
        assert config.model.critic.penalty_weight == weight
        given = load_config(name, [f"model.critic.penalty={penalty}", "model.critic.penalty_weight=7.5"])
        assert given.model.critic.penalty_weight == 7.5


def test_a_generator_has_the_shipped_settings_that_are_its_own():
    own = load_config("digits-vqgan-patch")
    assert own.model.generator == "patch"
    for source, model in (("digits", "vqgan"), (None, "vqgan"), ("digits-vqgan", None)):
        asked = ["model.generator=latent", "model.generator=patch"]
        assert load_config(source, asked, model).model_dump() == own.model_dump()
    assert load_config("digits-vqgan", ["model.generator=latent"]).model_dump() == load_config("digits-vqgan").model_dump()
    other = load_config("mnist-vqgan", ["model.generator=patch", "model.circuit.qubits=5", "model.circuit.measured=z"])
    assert other.training.epochs == load_config("mnist-vqgan").training.epochs  # has none of its own
    with pytest.raises(ConfigError, match=r"model\.generator is \"?patches"):
        load_config("digits-vqgan", ["model.generator=patches"])


def test_values_are_cut_in_messages_and_may_be_nested_twenty_deep():
    for length, shown in ((58, '"' + "x" * 58 + '"'), (59, '"' + "x" * 56 + "...")):
        with pytest.raises(ConfigError) as told:
            load_config("digits", [f"training.schedule={'x' * length}"])
        assert f"training.schedule is {shown}; " in str(told.value)
    deep, deeper = ({"sampler": {"options": {"a": 1}}} for _ in range(2))
    for keys, depth in ((deep, 18), (deeper, 19)):
        value = keys["sampler"]["options"]
        for _ in range(depth - 1):
            value["a"] = {"a": 1}
            value = value["a"]
    assert load_config(deep).sampler.options["a"]["a"]
    with pytest.raises(ConfigError, match=r"sampler.options.a is nested too deep or holds itself; give plain values"):
        load_config(deeper)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("gibbs", {"name": "gibbs", "options": {}}),
        ("gibbs:sweeps=5,", {"name": "gibbs", "options": {"sweeps": 5}}),
        ("x:a=[1, 2],b={c: 1, d: 2}", {"name": "x", "options": {"a": [1, 2], "b": {"c": 1, "d": 2}}}),
        ("my_module:My", {"name": "my_module:My", "options": {}}),
        ("my.module:My:a=1", {"name": "my.module:My", "options": {"a": 1}}),
        ("my_module:my=1", {"name": "my_module", "options": {"my": 1}}),
    ],
)
def test_backends_on_the_command_line(text, spec):
    assert parse_backend(text).model_dump() == spec
    assert parse_backend(parse_backend(text).label).model_dump() == spec
