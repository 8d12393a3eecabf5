"""What people do with a trained model, one file each: a function on a run, which the command line offers, too."""

APPLICATIONS = {
    "generate": "qvae.applications.generate",
    "reconstruct": "qvae.applications.reconstruct",
}
"""Modules by the name of their command. Each has a function of that name, which takes a run and annotated options::

    def generate(run: Run, num: Annotated[int, "How many images."] = 64) -> Outcome: ...

The first sentence of its docstring is the command's help, and the parameters become options. The module is imported for
``qvae --help``, so what it needs for its work is imported in the function.
"""

TASKS = {
    "augment": "qvae.applications.augment",
    "compress": "qvae.applications.compress",
    "decompress": "qvae.applications.decompress",
    "denoise": "qvae.applications.denoise",
    "detect": "qvae.applications.detect",
    "embed": "qvae.applications.embed",
    "inpaint": "qvae.applications.inpaint",
    "interpolate": "qvae.applications.interpolate",
    "style": "qvae.applications.style",
    "super-resolve": "qvae.applications.super_resolve",
}
"""The same of tasks on a user's own rows, ``qvae apply TASK RUN --input FILE --out DIR``. One that takes long has a parameter
``progress``, too, which no option sets."""
